"""Tiny ONNX models built in code, one a use; each knows how to check a session that holds it.

Every model has ``data`` (the file), ``inputs`` and ``outputs`` (manifest entries), and ``check``,
which runs a session and asserts the numbers. ``golden`` gives a few rows with their outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edged.manifest import TensorEntry
from edged.strings import strings
from edged.tensors import to_bfloat16

OPSET, IR = 17, 8
Arrays = dict[str, np.ndarray[Any, Any]]

_TYPES = {
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
    "float16": TensorProto.FLOAT16,
    "int8": TensorProto.INT8,
    "int16": TensorProto.INT16,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "uint8": TensorProto.UINT8,
    "uint16": TensorProto.UINT16,
    "uint32": TensorProto.UINT32,
    "uint64": TensorProto.UINT64,
    "bool": TensorProto.BOOL,
    "string": TensorProto.STRING,
    "bfloat16": TensorProto.BFLOAT16,
}


@dataclass(frozen=True)
class TinyModel:
    """An ONNX file, its signature, and what it computes in NumPy.

    Args:
        name: of the model.
        data: the file.
        inputs: as a manifest writes them.
        outputs: likewise.
        reference: the same computation in NumPy.
        sample: makes inputs for a number of rows.
    """

    name: str
    data: bytes
    inputs: tuple[TensorEntry, ...]
    outputs: tuple[TensorEntry, ...]
    reference: Callable[[Arrays], Arrays]
    sample: Callable[[int], Arrays]

    def golden(self, rows: int = 4) -> tuple[Arrays, Arrays]:
        """Sample inputs and their outputs."""
        inputs = self.sample(rows)
        return inputs, self.reference(inputs)

    def check(self, session: Any) -> None:
        """Run a session (anything with ``run(inputs) -> dict``) and hold it against NumPy."""
        for rows in (1, 3):
            inputs, wanted = self.golden(rows)
            got = session.run(inputs)
            assert list(got) == [entry.name for entry in self.outputs]
            for name, array in wanted.items():
                assert got[name].dtype == array.dtype, (name, got[name].dtype, array.dtype)
                assert got[name].shape == array.shape
                np.testing.assert_allclose(got[name], array, rtol=1e-3, atol=1e-4)


def value_info(entry: TensorEntry) -> onnx.ValueInfoProto:
    """A graph input or output as the entry says."""
    return helper.make_tensor_value_info(entry.name, _TYPES[entry.dtype], list(entry.shape))


def onnx_bytes(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[TensorEntry],
    outputs: Sequence[TensorEntry],
    initializers: Mapping[str, np.ndarray[Any, Any]] | None = None,
    **more: Any,
) -> bytes:
    """Serialise a graph of one opset."""
    graph = helper.make_graph(
        list(nodes),
        "tiny",
        [value_info(entry) for entry in inputs],
        [value_info(entry) for entry in outputs],
        [numpy_helper.from_array(array, name) for name, array in (initializers or {}).items()],
    )
    more.setdefault("opset_imports", [helper.make_opsetid("", OPSET)])
    return helper.make_model(graph, ir_version=IR, **more).SerializeToString()


def _random(rows: int, *shape: int, dtype: str = "float32") -> np.ndarray[Any, Any]:
    return np.random.default_rng(rows).normal(size=(rows, *shape)).astype(dtype)


def double(dtype: str = "float32", factor: int = 2, width: int = 4) -> TinyModel:
    """``y = x * factor`` on rows of four; other factors make other releases of one signature."""
    x, y = TensorEntry("x", dtype, ("batch", width)), TensorEntry("y", dtype, ("batch", width))
    constant = np.array(factor, dtype=dtype)
    return TinyModel(
        f"double-{dtype}",
        onnx_bytes([helper.make_node("Mul", ["x", "k"], ["y"])], [x], [y], {"k": constant}),
        (x,),
        (y,),
        lambda inputs: {"y": inputs["x"] * constant},
        lambda rows: {"x": np.abs(_random(rows, width) * 10).astype(dtype)},
    )


def brightest(height: int = 48, width: int = 64) -> TinyModel:
    """The largest byte of a camera's frame: it has to read all of them, and takes next to no time."""
    x = TensorEntry("frame", "uint8", ("batch", height, width, 3))
    y = TensorEntry("y", "uint8", ("batch",))
    node = helper.make_node("ReduceMax", ["frame"], ["y"], axes=[1, 2, 3], keepdims=0)
    return TinyModel(
        "brightest",
        onnx_bytes([node], [x], [y]),
        (x,),
        (y,),
        lambda inputs: {"y": inputs["frame"].max(axis=(1, 2, 3))},
        lambda rows: {
            "frame": (np.arange(rows * height * width * 3) % 251)
            .astype(np.uint8)
            .reshape(rows, height, width, 3)
        },
    )


def same(dtype: str) -> TinyModel:
    """``y = x``, of any dtype."""

    def sample(rows: int) -> Arrays:
        numbers = np.arange(rows * 3).reshape(rows, 3) % 2
        if dtype == "string":
            return {"x": strings([f"n{one}".encode() for one in numbers.flat], (rows, 3))}
        if dtype == "bfloat16":
            return {"x": to_bfloat16(numbers)}
        return {"x": numbers.astype(dtype)}

    x, y = TensorEntry("x", dtype, ("batch", 3)), TensorEntry("y", dtype, ("batch", 3))
    return TinyModel(
        f"same-{dtype}",
        onnx_bytes([helper.make_node("Identity", ["x"], ["y"])], [x], [y]),
        (x,),
        (y,),
        lambda inputs: {"y": inputs["x"].copy()},
        sample,
    )


def embedding(words: int = 256, width: int = 4) -> TinyModel:
    """A vector for each token, zeros where the mask is 0: what a sentence encoder gives."""
    table = np.random.default_rng(3).normal(size=(words, width)).astype(np.float32)
    axes = ("batch", "words")
    inputs = (TensorEntry("ids", "int64", axes), TensorEntry("mask", "int64", axes))
    y = TensorEntry("y", "float32", (*axes, width))
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["all"]),
        helper.make_node("Cast", ["mask"], ["weight"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["weight", "last"], ["each"]),
        helper.make_node("Mul", ["all", "each"], ["y"]),
    ]

    def sample(rows: int) -> Arrays:
        ids = np.arange(rows * 3).reshape(rows, 3) % words
        return {"ids": ids, "mask": (ids % 3 > 0).astype(np.int64)}

    return TinyModel(
        "embedding",
        onnx_bytes(nodes, inputs, [y], {"table": table, "last": np.array([2])}),
        inputs,
        (y,),
        lambda inputs: {"y": table[inputs["ids"]] * inputs["mask"][..., None].astype(np.float32)},
        sample,
    )


def heavy(seed: int, width: int = 1100) -> TinyModel:
    """``y = relu(relu(x A) B) C`` on rows of 16; weighs ``4 * width**2`` bytes: 5 MB as it is."""
    chance = np.random.default_rng(seed)
    shapes = {"a": (16, width), "b": (width, width), "c": (width, 4)}
    weights = {
        name: (chance.standard_normal(shape) / shape[0] ** 0.5).astype(np.float32)
        for name, shape in shapes.items()
    }
    x, y = TensorEntry("x", "float32", ("batch", 16)), TensorEntry("y", "float32", ("batch", 4))
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["xa"]),
        helper.make_node("Relu", ["xa"], ["h"]),
        helper.make_node("MatMul", ["h", "b"], ["hb"]),
        helper.make_node("Relu", ["hb"], ["g"]),
        helper.make_node("MatMul", ["g", "c"], ["y"]),
    ]

    def reference(inputs: Arrays) -> Arrays:
        first = np.maximum(inputs["x"] @ weights["a"], 0)
        return {"y": np.maximum(first @ weights["b"], 0) @ weights["c"]}

    return TinyModel(
        "heavy", onnx_bytes(nodes, [x], [y], weights), (x,), (y,), reference,
        lambda rows: {"x": chance.standard_normal((rows, 16)).astype(np.float32)},
    )  # fmt: skip


def classifier(features: int = 6, labels: int = 3) -> TinyModel:
    """A linear layer with softmax, and the index of the best: two outputs of two dtypes."""
    rng = np.random.default_rng(7)
    w = rng.normal(size=(features, labels)).astype("float32")
    b = rng.normal(size=labels).astype("float32")
    x = TensorEntry("features", "float32", ("batch", features))
    outputs = (
        TensorEntry("label", "int64", ("batch",)),
        TensorEntry("probabilities", "float32", ("batch", labels)),
    )
    nodes = [
        helper.make_node("Gemm", ["features", "w", "b"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["logits"], ["label"], axis=1, keepdims=0),
    ]

    def reference(inputs: Arrays) -> Arrays:
        logits = inputs["features"] @ w + b
        e = np.exp(logits - logits.max(1, keepdims=True))
        return {
            "label": logits.argmax(1),
            "probabilities": (e / e.sum(1, keepdims=True)).astype("float32"),
        }

    return TinyModel(
        "classifier",
        onnx_bytes(nodes, [x], outputs, {"w": w, "b": b}),
        (x,),
        outputs,
        reference,
        lambda rows: {"features": _random(rows, features)},
    )


def two_inputs() -> TinyModel:
    """``sum = a + b`` and ``is_more = a > b``: two inputs, a bool output."""
    a, b = (TensorEntry(name, "float32", ("batch", 2)) for name in "ab")
    outputs = (
        TensorEntry("sum", "float32", ("batch", 2)),
        TensorEntry("is_more", "bool", ("batch", 2)),
    )
    nodes = [
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("Greater", ["a", "b"], ["is_more"]),
    ]
    return TinyModel(
        "two-inputs",
        onnx_bytes(nodes, [a, b], outputs),
        (a, b),
        outputs,
        lambda inputs: {"sum": inputs["a"] + inputs["b"], "is_more": inputs["a"] > inputs["b"]},
        lambda rows: {"a": _random(rows, 2), "b": _random(rows + 10, 2)[:rows]},
    )


def scalar() -> TinyModel:
    """A number without axes in, its square out."""
    x, y = TensorEntry("x", "float32", ()), TensorEntry("y", "float32", ())
    return TinyModel(
        "scalar",
        onnx_bytes([helper.make_node("Mul", ["x", "x"], ["y"])], [x], [y]),
        (x,),
        (y,),
        lambda inputs: {"y": np.asarray(inputs["x"] * inputs["x"])},
        lambda rows: {"x": np.array(rows, dtype="float32")},
    )


def image() -> TinyModel:
    """A convolution over a small picture with free height and width, then the mean."""
    x = TensorEntry("image", "float32", ("batch", 3, "height", "width"))
    y = TensorEntry("brightness", "float32", ("batch", 1, 1, 1))
    weight = np.full((1, 3, 1, 1), 1 / 3, dtype="float32")
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["grey"]),
        helper.make_node("GlobalAveragePool", ["grey"], ["brightness"]),
    ]
    return TinyModel(
        "image",
        onnx_bytes(nodes, [x], [y], {"w": weight}),
        (x,),
        (y,),
        lambda inputs: {"brightness": inputs["image"].mean((1, 2, 3), keepdims=True)},
        lambda rows: {"image": _random(rows, 3, 8, 5)},
    )


def branching() -> TinyModel:
    """An If whose branches are sub-graphs: rows are negated when their sum is above zero."""
    x, y = TensorEntry("x", "float32", ("batch", 2)), TensorEntry("y", "float32", ("batch", 2))

    def branch(name: str, op: str) -> onnx.GraphProto:
        node = helper.make_node(op, ["x"], [f"{name}_y"])
        result = helper.make_tensor_value_info(f"{name}_y", TensorProto.FLOAT, None)
        return helper.make_graph([node], name, [], [result])

    nodes = [
        helper.make_node("ReduceSum", ["x"], ["total"], keepdims=0),
        helper.make_node("Greater", ["total", "zero"], ["is_more"]),
        helper.make_node(
            "If",
            ["is_more"],
            ["y"],
            then_branch=branch("then", "Neg"),
            else_branch=branch("else", "Identity"),
        ),
    ]
    return TinyModel(
        "branching",
        onnx_bytes(nodes, [x], [y], {"zero": np.array(0, dtype="float32")}),
        (x,),
        (y,),
        lambda inputs: {"y": -inputs["x"] if inputs["x"].sum() > 0 else inputs["x"]},
        lambda rows: {"x": _random(rows, 2)},
    )


def with_function() -> TinyModel:
    """A model-local function in a domain of its own."""
    x, y = TensorEntry("x", "float32", ("batch", 4)), TensorEntry("y", "float32", ("batch", 4))
    body = helper.make_function(
        "tiny.local",
        "Twice",
        ["a"],
        ["b"],
        [helper.make_node("Add", ["a", "a"], ["b"])],
        [helper.make_opsetid("", OPSET)],
    )
    imports = [helper.make_opsetid("", OPSET), helper.make_opsetid("tiny.local", 1)]
    node = helper.make_node("Twice", ["x"], ["y"], domain="tiny.local")
    return TinyModel(
        "with-function",
        onnx_bytes([node], [x], [y], functions=[body], opset_imports=imports),
        (x,),
        (y,),
        lambda inputs: {"y": inputs["x"] * 2},
        lambda rows: {"x": _random(rows, 4)},
    )


def with_external_data() -> tuple[TinyModel, dict[str, bytes]]:
    """``double`` with its constant kept in a second file; also gives the files by name."""
    x, y = TensorEntry("x", "float32", ("batch", 4)), TensorEntry("y", "float32", ("batch", 4))
    constant = np.array([1, 2, 3, 4], dtype="float32")
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "k"], ["y"])],
        "tiny",
        [value_info(x)],
        [value_info(y)],
        [
            external_tensor(
                "k", TensorProto.FLOAT, [4], location="weights.data", offset=8, length=16
            )
        ],
    )
    model = helper.make_model(graph, ir_version=IR, opset_imports=[helper.make_opsetid("", OPSET)])
    files = {"weights.data": b"\xee" * 8 + constant.tobytes() + b"\xee" * 8}
    tiny = TinyModel(
        "external",
        model.SerializeToString(),
        (x,),
        (y,),
        lambda inputs: {"y": inputs["x"] * constant},
        lambda rows: {"x": _random(rows, 4)},
    )
    return tiny, files


def external_tensor(
    name: str, data_type: int, dims: Sequence[int], **entries: object
) -> onnx.TensorProto:
    """A tensor whose bytes lie elsewhere: ``location``, ``offset``, ``length``, or anything."""
    tensor = onnx.TensorProto(name=name, data_type=data_type, dims=dims)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def remembering(width: int = 3, axis: int = 1) -> TinyModel:
    """A sum and a count of what came: ``y`` is all that was kept before, ``hN`` what is kept now.

    ``h`` is [2,batch,width] (or with its rows on another axis): h[0] sums x, h[1] counts.
    """
    kept = ["batch", width]
    kept.insert(0 if axis else 1, 2)
    x, h = TensorEntry("x", "float32", ("batch", width)), TensorEntry("h", "float32", tuple(kept))
    y, next_h = (
        TensorEntry("y", "float32", ("batch", 2 * width)),
        TensorEntry("hN", "float32", h.shape),
    )
    pair = 0 if axis else 1
    nodes = [
        helper.make_node("Split", ["h"], ["h0", "h1"], axis=pair),
        helper.make_node("Squeeze", ["h0", "pair"], ["sum"]),
        helper.make_node("Squeeze", ["h1", "pair"], ["count"]),
        helper.make_node("Concat", ["sum", "count"], ["y"], axis=1),
        helper.make_node("Unsqueeze", ["x", "pair"], ["x0"]),
        helper.make_node("Add", ["h0", "x0"], ["next0"]),
        helper.make_node("Add", ["h1", "one"], ["next1"]),
        helper.make_node("Concat", ["next0", "next1"], ["hN"], axis=pair),
    ]
    constants = {"pair": np.array([pair], "int64"), "one": np.array(1, "float32")}

    def reference(inputs: Arrays) -> Arrays:
        total, count = np.moveaxis(inputs["h"], pair, 0)
        after = np.stack([total + inputs["x"], count + 1], axis=pair)
        return {"y": np.concatenate([total, count], axis=1), "hN": after}

    def sample(rows: int) -> Arrays:
        return {
            "x": _random(rows, width),
            "h": np.moveaxis(_random(rows, 2, width), 0, 1 - pair).copy(),
        }

    data = onnx_bytes(nodes, [x, h], [y, next_h], constants)
    return TinyModel("remembering", data, (x, h), (y, next_h), reference, sample)


def all_models() -> list[TinyModel]:
    """Every model that fits in one file."""
    numbers = ("float32", "float64", "int32", "int64", "float16", "uint32", "uint64")
    return [
        *(double(dtype) for dtype in numbers),
        classifier(),
        two_inputs(),
        scalar(),
        image(),
        branching(),
        with_function(),
    ]
