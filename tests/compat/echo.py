"""A model that gives back what it gets, in every data type that is served."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from onnx import helper

from edged.manifest import TensorEntry
from edged.tensors import DTYPES
from tests.models import TinyModel, onnx_bytes

SHAPE: tuple[int | str, ...] = ("batch", 3)


def sample(rows: int, dtype: str) -> np.ndarray[Any, Any]:
    """Values that show a swapped byte, a lost sign or a rounded number."""
    kind = np.dtype(dtype).kind
    if kind == "b":
        return (np.arange(rows * 3) % 2 == 0).reshape(rows, 3)
    if kind == "f":
        values = np.linspace(-1.5, 2.25, rows * 3)
        return values.astype(dtype).reshape(rows, 3)
    info = np.iinfo(dtype)
    edges = np.array([info.min, info.max, 1], dtype)
    return np.tile(edges, (rows, 1))


def check(result: Any, rows: int) -> None:
    """Hold a Triton client's result against what was asked, in every data type."""
    for name in DTYPES:
        np.testing.assert_array_equal(result.as_numpy(f"{name}_out"), sample(rows, name))
        assert result.as_numpy(f"{name}_out").dtype == sample(rows, name).dtype


def echo(names: Collection[str] = DTYPES) -> TinyModel:
    """Inputs ``float32`` and so on; each is given back as ``float32_out``."""
    inputs = tuple(TensorEntry(name, name, SHAPE) for name in names)
    outputs = tuple(TensorEntry(f"{name}_out", name, SHAPE) for name in names)
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in names]
    return TinyModel(
        "echo",
        onnx_bytes(nodes, inputs, outputs),
        inputs,
        outputs,
        lambda arrays: {f"{name}_out": array for name, array in arrays.items()},
        lambda rows: {name: sample(rows, name) for name in names},
    )
