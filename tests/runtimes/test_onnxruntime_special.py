"""Strings and bfloat16 through ONNX Runtime: what arrives is what was sent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from edged.errors import LoadError, RunError, TensorMismatchError
from edged.manifest import TensorEntry
from edged.runtimes.base import Artefact
from edged.runtimes.onnxruntime import OnnxRuntime
from edged.strings import strings
from edged.tensors import BFLOAT16, from_bfloat16, to_bfloat16
from tests.models import OPSET, onnx_bytes, same

pytest.importorskip("onnxruntime")


def load(data: bytes, inputs: list[TensorEntry], outputs: list[TensorEntry]) -> Any:
    specs = [tuple(entry.spec() for entry in side) for side in (inputs, outputs)]
    return OnnxRuntime(threads=1).load(Artefact("m", data, *specs))


def identity(dtype: str) -> Any:
    model = same(dtype)
    return load(model.data, list(model.inputs), list(model.outputs))


@pytest.mark.parametrize("rows", [0, 1, 7])
def test_bfloat16(rows: int) -> None:
    x = to_bfloat16(np.linspace(-3, 3, rows * 3, dtype=np.float32).reshape(rows, 3))
    session = identity("bfloat16")
    y = session.run({"x": x})["y"]
    assert y.dtype == BFLOAT16
    assert y.shape == (rows, 3)
    assert y.tobytes() == x.tobytes()
    assert session.bind({"x": x}, {"y": x}) is None
    session.close()
    with pytest.raises(RunError, match="closed"):
        session.run({"x": x})


def test_bfloat16_of_every_other_row() -> None:
    x = to_bfloat16(np.arange(12, dtype=np.float32).reshape(4, 3))[::2]
    assert identity("bfloat16").run({"x": x})["y"].tolist() == x.tolist()


def test_bfloat16_beside_other_types() -> None:
    x, f = TensorEntry("x", "bfloat16", ("batch",)), TensorEntry("f", "float32", ("batch",))
    wide, s = TensorEntry("wide", "float32", ("batch",)), TensorEntry("s", "string", ("batch",))
    y, z = (TensorEntry(f"{one.name}_out", one.dtype, one.shape) for one in (x, f))
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in "xf"]
    nodes += [
        helper.make_node("Cast", ["x"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["f"], ["s"], to=TensorProto.STRING),
    ]
    outputs = [y, z, wide, s]
    session = load(onnx_bytes(nodes, [x, f], outputs), [x, f], outputs)
    given = {"x": to_bfloat16(np.float32([1.5, -2])), "f": np.float32([3, 4])}
    found = session.run(given)
    for name, array in given.items():
        assert found[f"{name}_out"].tolist() == array.tolist()
    assert found["wide"].tolist() == from_bfloat16(given["x"]).tolist() == [1.5, -2]
    assert found["s"].tolist() == [b"3", b"4"]


def test_both_as_inputs_are_refused_by_name() -> None:
    inputs = [TensorEntry("x", "bfloat16", ("batch",)), TensorEntry("s", "string", ("batch",))]
    outputs = [TensorEntry(f"{one.name}_out", one.dtype, one.shape) for one in inputs]
    nodes = [helper.make_node("Identity", [one.name], [f"{one.name}_out"]) for one in inputs]
    with pytest.raises(LoadError, match="one or the other"):
        load(onnx_bytes(nodes, inputs, outputs), inputs, outputs)


def test_a_failure_of_the_model_is_the_request_s() -> None:
    session = identity("bfloat16")
    with pytest.raises(RunError, match='model "m" failed while running'):
        session.run({"x": to_bfloat16(np.zeros((1, 2), np.float32))})
    assert session.run({"x": to_bfloat16(np.zeros((1, 3), np.float32))})["y"].shape == (1, 3)


def test_text() -> None:
    session = identity("string")
    words = [b"", b"a\0b", "äöü".encode(), b"x" * 5000, b"0", b"None"]
    x = strings(words, (2, 3))
    assert session.run({"x": x})["y"].tolist() == x.tolist()
    assert session.run({"x": strings([], (0, 3))})["y"].shape == (0, 3)
    assert session.run({"x": x.T.reshape(2, 3)})["y"].tolist() == x.T.reshape(2, 3).tolist()


def lengths() -> Any:
    """A model that takes strings of any bytes and gives numbers: which of them are known."""
    x, y = TensorEntry("x", "string", ("batch",)), TensorEntry("y", "int64", ("batch",))
    node = helper.make_node(
        "LabelEncoder", ["x"], ["y"], domain="ai.onnx.ml",
        keys_strings=[b"\xff\xfe", b"ab"], values_int64s=[1, 2], default_int64=0,
    )  # fmt: skip
    imports = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", 2)]
    return load(onnx_bytes([node], [x], [y], opset_imports=imports), [x], [y])


def test_bytes_that_are_no_text_reach_the_model() -> None:
    x = strings([b"\xff\xfe", b"ab", b"\xff\xfea", b""], (4,))
    assert lengths().run({"x": x})["y"].tolist() == [1, 2, 0, 0]


def test_bytes_that_are_no_text_and_hold_a_zero_are_refused() -> None:
    with pytest.raises(TensorMismatchError, match=r'input "x", string 1: .*none of them is zero'):
        lengths().run({"x": strings([b"\xff", b"\0"], (2,))})


def test_bytes_that_are_no_text_do_not_take_all_memory() -> None:
    values = [bytes([255]) * (1 << 20), *[b"a"] * 100]
    with pytest.raises(TensorMismatchError, match="padded to the longest"):
        lengths().run({"x": strings(values, (101,))})


def test_bytes_that_are_no_text_do_not_come_back() -> None:
    with pytest.raises(RunError, match="gave a string that is no UTF-8"):
        identity("string").run({"x": strings([b"\xff", b"a", b"b"], (1, 3))})


def test_numbers_in_and_text_out() -> None:
    x, y = TensorEntry("x", "int64", ("batch",)), TensorEntry("y", "string", ("batch",))
    node = helper.make_node(
        "LabelEncoder", ["x"], ["y"], domain="ai.onnx.ml",
        keys_int64s=[0], values_strings=["a"], default_string="b",
    )  # fmt: skip
    imports = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", 2)]
    session = load(onnx_bytes([node], [x], [y], opset_imports=imports), [x], [y])
    assert session.run({"x": np.int64([0, 5])})["y"].tolist() == [b"a", b"b"]


def test_elsewhere_than_on_the_cpu_it_is_refused_by_name() -> None:
    class Elsewhere(OnnxRuntime):
        name = "onnxruntime-cuda"

    model = same("string")
    artefact = Artefact("m", model.data, (model.inputs[0].spec(),), (model.outputs[0].spec(),))
    with pytest.raises(LoadError, match="on the CPU only: name the runtime onnxruntime"):
        Elsewhere(threads=1).load(artefact)
