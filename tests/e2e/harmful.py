"""Models that do harm when they are asked to: real graphs on the real runtime, no pretence.

Each takes ``n`` int64[1] and behaves for small numbers. The golden samples use ``sample``, so a
model can be made that passes its trial and does harm later, or one that does harm at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from edged.manifest import TensorEntry
from tests.models import TinyModel, onnx_bytes

N = TensorEntry("n", "int64", (1,))
LEAST = -(2**63)


def crasher(sample: int = 7) -> TinyModel:
    """``y = LEAST / n``; -1 overflows, which x86-64 answers with SIGFPE.

    ONNX Runtime looks for a zero before it divides, and not for this (seen with 1.23 and 1.32).
    """
    y = TensorEntry("y", "int64", (1,))
    nodes = [helper.make_node("Div", ["least", "n"], ["y"])]

    def reference(inputs: Any) -> Any:
        n = int(inputs["n"][0])
        return {"y": np.array([-(-LEAST // n) if n > 0 else 0])}

    return _model("crasher", nodes, y, {"least": np.array([LEAST])}, reference, sample)


def looper(sample: int = 3) -> TinyModel:
    """``y = n`` after ``n`` turns of a loop; a large number never comes back."""
    y = TensorEntry("y", "int64", (1,))
    body = helper.make_graph(
        [
            helper.make_node("Add", ["count", "one"], ["next"]),
            helper.make_node("Identity", ["go"], ["still"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("count", TensorProto.INT64, [1]),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.INT64, [1]),
        ],
    )
    nodes = [
        helper.make_node("Squeeze", ["n"], ["turns"]),
        helper.make_node("Loop", ["turns", "true", "zero"], ["y"], body=body),
    ]
    constants = {"true": np.array(True), "zero": np.array([0]), "one": np.array([1])}
    return _model("looper", nodes, y, constants, lambda inputs: {"y": inputs["n"]}, sample)


def multiplier(sample: int = 2) -> TinyModel:
    """``y = n**3`` by one matrix product; 20,000 keeps one kernel busy for minutes."""
    return _filled("multiplier", ["n", "n"], "MatMul", 3, sample)


def hoarder(sample: int = 2) -> TinyModel:
    """``y = n * 2`` by way of two arrays of ``n`` numbers: eight bytes ask for all the memory."""
    return _filled("hoarder", ["n"], "Add", 1, sample)


def _filled(name: str, axes: list[str], operator: str, power: int, sample: int) -> TinyModel:
    y = TensorEntry("y", "float32", (1,))
    value = helper.make_tensor("value", TensorProto.FLOAT, [1], [1.0])
    nodes = [
        helper.make_node("Concat", axes, ["shape"], axis=0),
        helper.make_node("ConstantOfShape", ["shape"], ["a"], value=value),
        helper.make_node(operator, ["a", "a"], ["b"]),
        helper.make_node("ReduceSum", ["b"], ["sum"], keepdims=0),
        helper.make_node("Reshape", ["sum", "one"], ["y"]),
    ]

    def reference(inputs: Any) -> Any:
        factor = 2 if operator == "Add" else 1
        return {"y": (inputs["n"] ** power * factor).astype(np.float32)}

    return _model(name, nodes, y, {"one": np.array([1])}, reference, sample)


def _model(
    name: str,
    nodes: list[Any],
    y: TensorEntry,
    constants: dict[str, Any],
    reference: Callable[[Any], Any],
    sample: int,
) -> TinyModel:
    return TinyModel(
        name,
        onnx_bytes(nodes, [N], [y], constants),
        (N,),
        (y,),
        reference,
        lambda _rows: {"n": np.array([sample])},
    )
