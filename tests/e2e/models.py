"""Models that the end-to-end tests need besides the tiny ones."""

from __future__ import annotations

import dataclasses

import numpy as np
from onnx import helper

from edged.manifest import TensorEntry
from tests.models import TinyModel, onnx_bytes


def lying(model: TinyModel) -> TinyModel:
    """The same file, with golden outputs that it does not reproduce."""
    honest = model.reference
    return dataclasses.replace(
        model, reference=lambda inputs: {k: v + 1 for k, v in honest(inputs).items()}
    )


def slow(size: int = 640, layers: int = 12) -> TinyModel:
    """``y = x * 1.0`` on rows of four, by way of matrix products that take some milliseconds."""
    x = TensorEntry("x", "float32", ("batch", 4))
    y = TensorEntry("y", "float32", ("batch", 4))
    # A constant matrix multiplied by itself at run time; its sum is zero and is added to the row.
    w = np.random.default_rng(3).normal(size=(size, size)).astype("float32") / size
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0),
        helper.make_node("Mul", ["w", "s"], ["m0"]),
        *(helper.make_node("MatMul", [f"m{i}", "w"], [f"m{i + 1}"]) for i in range(layers)),
        helper.make_node("ReduceSum", [f"m{layers}"], ["t"], keepdims=0),
        helper.make_node("Mul", ["t", "zero"], ["nothing"]),
        helper.make_node("Add", ["x", "nothing"], ["y"]),
    ]
    constants = {"w": w, "zero": np.array(0, "float32")}
    return TinyModel(
        "slow",
        onnx_bytes(nodes, [x], [y], constants),
        (x,),
        (y,),
        lambda inputs: {"y": inputs["x"]},
        lambda rows: {"x": np.random.default_rng(rows).random((rows, 4), dtype=np.float32)},
    )
