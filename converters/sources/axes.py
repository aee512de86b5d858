"""Free axes beside the rows': their names, and whether they are free in more than name.

Exporters count unnamed axes through the process (``s77``, ``unk__398``): such a name says nothing
and differs from run to run. A free axis may also hide a constant of the example's size, which only
a run at another size shows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from converters import graph
from converters.errors import ConversionError, UnsupportedModelError
from converters.session import open_session
from converters.signature import declared
from edged.tensors import BATCH, Array

COUNTED = re.compile(r"\b[su]\d+\b|unk__\d+|^\?$")
"""Names that PyTorch (``s77``, ``2*s77``) and tf2onnx (``unk__398``) count up."""
RTOL, ATOL = 1e-3, 1e-4
"""Coarse: the question is whether a size is baked in, not the last digits, which parity judges."""

Call = Callable[[dict[str, Array]], dict[str, Array]]


def name_axes(model: Any, inputs: Mapping[str, Array]) -> bool:
    """Name counted axes after the first input that has them; axis 0 of all is ``batch``.

    Args:
        model: an onnx.ModelProto, changed in place; its inputs are in the order of ``inputs``.
        inputs: by the names that they will have.

    Returns:
        Whether an axis beside the rows' had a counted name.
    """
    names: dict[str, str] = {}
    found = False
    values = [*zip(model.graph.input, inputs, strict=True), *((v, "") for v in model.graph.output)]
    for value, name in values:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            raw = dim.dim_param
            if not raw or not COUNTED.search(raw):
                continue
            found = found or axis > 0  # axis 0 gets its name from the signature anyway
            if name:
                names.setdefault(raw, BATCH if axis == 0 else f"{name}_{axis}")
            # Unknown to any input: left unnamed, and named after the output later.
            dim.dim_param = names.get(raw, BATCH if axis == 0 else "")
    return found


def prove_axes(model: Any, call: Call, inputs: Mapping[str, Array]) -> list[str]:
    """Run framework and converted model at half the size of every free axis but the first.

    Args:
        model: an onnx.ModelProto; its inputs are in the order of ``inputs``.
        call: the framework, from input arrays to output arrays in the model's order.
        inputs: some rows of samples.

    Returns:
        What could not be tested, for the report.

    Raises:
        UnsupportedModelError: another size gives other numbers; names the input and its axis.
    """
    free: dict[str, list[tuple[str, int]]] = {}
    for value, name in zip(model.graph.input, inputs, strict=True):
        for axis, dim in enumerate(declared(value)[: inputs[name].ndim]):
            if axis and isinstance(dim, str) and inputs[name].shape[axis] > 1:
                free.setdefault(dim or f"{name}_{axis}", []).append((name, axis))
    unclear = any("" in declared(value)[1:] for value in model.graph.output)
    if not free and not unclear:
        return []
    session = open_session(graph.serialize(model))
    own = [value.name for value in model.graph.input]

    def run(arrays: dict[str, Array]) -> list[Array]:
        return list(session(dict(zip(own, arrays.values(), strict=True))).values())

    example = {name: array[:2] for name, array in inputs.items()}
    shapes = [array.shape for array in run(example)]
    untested = []
    for word, places in free.items():
        few = dict(example)
        for name, axis in places:
            few[name] = _half(few[name], axis)
        name, axis = places[0]
        size = few[name].shape[axis]
        try:
            expected = list(call(few).values())
        except Exception:  # it may need that size: then nobody else can judge it
            untested.append(f'axis {axis} of "{name}" was not tested: the model fails at {size}')
            continue
        try:
            got = run(few)
        except ConversionError as exc:
            raise UnsupportedModelError(_explain(name, axis, size, str(exc))) from exc
        if not all(_same(a, b) for a, b in zip(expected, got, strict=True)):
            raise UnsupportedModelError(_explain(name, axis, size, "other numbers come out"))
        _declare_free(model, got, shapes, word, size)
    if not untested:
        _declare_fixed(model, shapes)
    return untested


def _declare_free(
    model: Any, got: list[Array], shapes: list[tuple[int, ...]], word: str, size: int
) -> None:
    """Name the axes of outputs that follow an input's, whatever the exporter declared.

    NOTE: PyTorch 2.13 declares the time axis of an LSTM's output at the example's length.
    """
    for value, array, before in zip(model.graph.output, got, shapes, strict=True):
        dims = value.type.tensor_type.shape.dim
        for axis, (dim, now, was) in enumerate(zip(dims, array.shape, before, strict=False)):
            if axis and now != was and not dim.dim_param:
                dim.dim_param = word if now == size else f"{value.name}_{axis}"


def _declare_fixed(model: Any, shapes: list[tuple[int, ...]]) -> None:
    """Axes of outputs that nothing declared and no input moves have the length that they had."""
    for value, shape in zip(model.graph.output, shapes, strict=True):
        for axis, (dim, size) in enumerate(
            zip(value.type.tensor_type.shape.dim, shape, strict=False)
        ):
            if axis and not dim.dim_param and not dim.HasField("dim_value"):
                dim.dim_value = size


def _half(array: Array, axis: int) -> Array:
    size = max(1, array.shape[axis] // 2)
    return np.ascontiguousarray(np.take(array, range(size), axis=axis))


def _same(expected: Array, got: Array) -> bool:
    return expected.shape == got.shape and np.allclose(expected, got, RTOL, ATOL, equal_nan=True)


def _explain(name: str, axis: int, size: int, what: str) -> str:
    return (
        f'axis {axis} of input "{name}" is free in name only: at size {size} {what}. A size is '
        "baked into the model (a reshape or slice to a fixed length): take it from the tensor's "
        "shape instead, or do not free that axis"
    )
