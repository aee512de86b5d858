"""The gate as a whole: what comes out of it, and that each of its parts is needed."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from converters.edges import MISSING, ask_edges
from converters.errors import ParityError
from converters.gate.prove import prove
from converters.recipe import Recipe
from converters.sandbox import Converted
from converters.session import open_session
from converters.sources.base import Exported, SourceResult

ROWS = np.random.default_rng(5).normal(size=(40, 3)).astype("f4")
"""Less and more than zero in every column, and nowhere zero itself."""


def model_of(opset=18, axis="n"):
    """``y = x * 2`` on float32[axis,3]."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [axis, 3]) for name in "xy")
    node = helper.make_node("Mul", ["x", "two"], ["y"])
    two = numpy_helper.from_array(np.float32(2).reshape(()), "two")
    graph = helper.make_graph([node], "g", [x], [y], [two])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def gate(framework, rows=ROWS, opset=18, axis="n", **fields):
    result = SourceResult(input_names=("x",), output_names=("y",), reference="by hand")
    outputs = {"y": framework(rows)}
    exported = Exported(
        model=model_of(opset), inputs={"x": rows}, outputs=outputs, framework={}, reference="",
        call=lambda some: {"y": framework(some["x"])},
    )  # fmt: skip
    made = ask_edges(exported, "rows")
    recipe = Recipe(source="m", samples="s", name="m", release=1, **fields)
    converted = Converted(
        model_of(opset, axis).SerializeToString(), {"x": rows}, outputs, made, result
    )
    return prove(recipe, converted)


def double(rows):
    return rows * np.float32(2)


def test_what_is_proven_carries_its_signature_its_edges_and_every_check():
    proven = gate(double)
    assert proven.inputs[0].spec().shape == ("batch", 3)
    assert (proven.opset, proven.parity[0].rows_beyond) == (18, 0)
    assert sorted(proven.edges) == ["highest", "lowest", "zeros"]
    assert [check.name for check in proven.checks.done] == [
        "form", "rows", "numbers", "edges", "float16", "file"
    ]  # fmt: skip


def special_at_zero(rows):
    """A framework that takes 0 for missing, which its converter forgot; no sample is zero."""
    return np.where(rows == 0, np.float32(7), double(rows))


def special_at_nan(rows):
    """One that has an answer to missing values; the converted graph gives NaN."""
    return np.where(np.isnan(rows), np.float32(7), double(rows))


def test_what_the_edges_find_no_other_check_does():
    with pytest.raises(ParityError, match=r'edge case "zeros".*--edges none'):
        gate(special_at_zero)
    # The control: without them a wrong model is proven by all the rest.
    proven = gate(special_at_zero, edges="none")
    assert {check.verdict for check in proven.checks.done} == {"passed"}
    assert (proven.parity[0].rows_beyond, proven.edges) == (0, {})


def test_missing_values_that_no_sample_has_are_a_remark_and_do_not_travel():
    proven = gate(special_at_nan)
    (remark,) = (check for check in proven.checks.done if check.verdict == "remark")
    assert (remark.name, MISSING in proven.edges) == ("edges", False)
    assert "missing values come out otherwise" in remark.detail
    assert all(
        check.verdict == "passed" for check in gate(special_at_nan, edges="none").checks.done
    )


def test_the_names_of_the_recipe_come_first():
    proven = gate(double, input_names=("sensor",), output_names=("answer",))
    assert [entry.name for entry in (*proven.inputs, *proven.outputs)] == ["sensor", "answer"]
    assert sorted(proven.got) == sorted(proven.expected) == ["answer"]


def test_tensorrt_is_told_and_never_taken_for_passed():
    for target, opset, verdict, words in (
        ("jetpack6", 18, "not checked", "built and proven on the device"),
        ("jetpack6", 21, "remark", "ONNX Runtime alone"),
    ):
        checks = gate(double, target=target, opset=opset).checks.done
        (check,) = (check for check in checks if check.name == "tensorrt")
        assert (check.verdict, words in check.detail) == (verdict, True)


@pytest.mark.parametrize(("axis", "opened"), [("batch", 1), ("n", 2)])
def test_bytes_that_changed_after_the_proof_are_run_once_more(axis, opened, monkeypatch):
    sessions = []

    def open_counted(data):
        sessions.append(data)
        return open_session(data)

    monkeypatch.setattr("converters.gate.prove.open_session", open_counted)
    # The signature settles what the batch axis is called.
    assert gate(double, axis=axis).data == sessions[-1]
    assert len(sessions) == opened
