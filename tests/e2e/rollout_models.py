"""Releases that are worse than the first one, each in a way that a guard looks at."""

from __future__ import annotations

import dataclasses

import numpy as np
from onnx import TensorProto, helper

from edged.manifest import TensorEntry
from tests.models import Arrays, TinyModel, double, onnx_bytes

HARMLESS, POISON = 1.0, 500.0
"""Rows of the second kind make ``fragile`` fail."""
X, Y = (TensorEntry(name, "float32", ("batch", 4)) for name in ("x", "y"))


def _sample(rows: int) -> Arrays:
    return {"x": np.random.default_rng(rows).random((rows, 4), dtype=np.float32)}


def fragile() -> TinyModel:
    """``y = 2 x``; fails where a row has a number of 64 or more, as no golden sample has."""
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["largest"], keepdims=0),
        helper.make_node("Cast", ["largest"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["zeros", "index"], ["nothing"]),
        helper.make_node("Mul", ["x", "two"], ["twice"]),
        helper.make_node("Add", ["twice", "nothing"], ["y"]),
    ]
    constants = {"zeros": np.zeros(64, np.float32), "two": np.array(2, np.float32)}
    return TinyModel(
        "fragile",
        onnx_bytes(nodes, [X], [Y], constants),
        (X,),
        (Y,),
        lambda inputs: {"y": inputs["x"] * 2},
        _sample,
    )


def dawdling(size: int = 256, layers: int = 40) -> TinyModel:
    """``y = 2 x``, by way of matrix products that take some milliseconds."""
    w = np.random.default_rng(3).normal(size=(size, size)).astype("float32") / size
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0),
        helper.make_node("Mul", ["w", "s"], ["m0"]),
        *(helper.make_node("MatMul", [f"m{i}", "w"], [f"m{i + 1}"]) for i in range(layers)),
        helper.make_node("ReduceSum", [f"m{layers}"], ["t"], keepdims=0),
        helper.make_node("Mul", ["t", "zero"], ["nothing"]),
        helper.make_node("Mul", ["x", "two"], ["twice"]),
        helper.make_node("Add", ["twice", "nothing"], ["y"]),
    ]
    constants = {"w": w, "zero": np.array(0, "float32"), "two": np.array(2, "float32")}
    made = onnx_bytes(nodes, [X], [Y], constants)
    return TinyModel("dawdling", made, (X,), (Y,), lambda i: {"y": i["x"] * 2}, _sample)


def steady() -> TinyModel:
    """``y = 2 x``, with samples like what is asked; the two others are held against it."""
    return dataclasses.replace(double(), sample=_sample)


def wrong() -> TinyModel:
    """``y = 2.5 x``: as quick and as sound, and not what the first one says."""
    return dataclasses.replace(double(factor=2.5), sample=_sample)  # type: ignore[arg-type]
