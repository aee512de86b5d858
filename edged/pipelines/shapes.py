"""Steps on the axes of any tensor: windows along one, another order, another shape. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from edged.config.shapes import EachConfig, ReshapeConfig, TransposeConfig, WindowsConfig
from edged.errors import FieldError
from edged.pipelines.arrays import RESULT, axis_of
from edged.pipelines.checks import check_growth
from edged.pipelines.step import Values, Work
from edged.tensors import Array, Axis, TensorSpec

_REST = -1


def windows_work(config: WindowsConfig) -> Work:
    """Overlapping parts along one axis; the windows are a new axis before it."""
    size, step = config.size, config.step or config.size

    def count(length: int) -> int:
        if config.pad:  # no window begins behind the end
            return max(1, min(-(-(length - size) // step) + 1, -(-length // step)))
        return (length - size) // step + 1

    def outputs(inputs: Mapping[str, TensorSpec]) -> Sequence[TensorSpec]:
        spec = inputs["from"]
        axis = axis_of("windows.axis", config.axis, spec)
        length = spec.shape[axis]
        made: Axis = "*windows"
        if isinstance(length, int):
            if length < size and not config.pad:
                raise FieldError("windows.size", f"{spec} has {length} entries on axis {axis}")
            made = count(length)
        return [
            TensorSpec(
                RESULT, spec.dtype, (*spec.shape[:axis], made, size, *spec.shape[axis + 1 :])
            )
        ]

    def run(values: Values) -> Values:
        array = values["from"]
        axis = config.axis % array.ndim
        length = array.shape[axis]
        if length < size and not config.pad:
            raise ValueError(f"{length} entries are less than a window of {size}")
        missing = (count(length) - 1) * step + size - length
        if missing > 0:
            sides = [(0, missing if place == axis else 0) for place in range(array.ndim)]
            array = np.pad(array, sides)
        views = np.lib.stride_tricks.sliding_window_view(array, size, axis=axis)
        chosen = np.moveaxis(views, -1, axis + 1)[
            (slice(None),) * axis + (slice(None, None, step),)
        ]
        check_growth(chosen.size, array.size)
        return {RESULT: np.ascontiguousarray(chosen)}

    return Work({"from": config.from_}, outputs, run, is_slow=True)


def transpose_work(config: TransposeConfig) -> Work:
    """Another order of the axes, as a view."""

    def outputs(inputs: Mapping[str, TensorSpec]) -> Sequence[TensorSpec]:
        spec = inputs["from"]
        rank = len(spec.shape)
        if sorted(axis % max(rank, 1) for axis in config.axes) != list(range(rank)):
            raise FieldError("transpose.axes", f"{spec} has axes 0 to {rank - 1}; name each once")
        return [TensorSpec(RESULT, spec.dtype, tuple(spec.shape[axis] for axis in config.axes))]

    def run(values: Values) -> Values:
        return {RESULT: values["from"].transpose(config.axes)}

    return Work({"from": config.from_}, outputs, run)


def reshape_work(config: ReshapeConfig) -> Work:
    """The same entries in another shape, as a view where it can be.

    Raises:
        FieldError: more than one length is left open.
    """
    shape = config.shape
    if shape.count(_REST) > 1 or 0 in shape:
        raise FieldError("reshape.shape", "has lengths of at least 1, and one may be -1")
    fixed = math.prod(length for length in shape if length != _REST)

    def outputs(inputs: Mapping[str, TensorSpec]) -> Sequence[TensorSpec]:
        spec = inputs["from"]
        free = [axis for axis in spec.shape if isinstance(axis, str)]
        known = math.prod(axis for axis in spec.shape if isinstance(axis, int))
        rest: Axis = "*rest"
        if free and _REST not in shape:
            raise FieldError("reshape.shape", f"how many entries {spec} has is not known; use -1")
        if not free:
            rest, odd = divmod(known, fixed)
            if odd or (_REST not in shape and rest != 1):
                raise FieldError("reshape.shape", f"{spec} has {known} entries; cannot be {shape}")
        elif len(free) == 1 and known == fixed:
            rest = free[0]
        made = tuple(rest if length == _REST else length for length in shape)
        return [TensorSpec(RESULT, spec.dtype, made)]

    def run(values: Values) -> Values:
        array: Array = values["from"]
        if array.size % fixed:
            raise ValueError(f"{array.size} entries are no multiple of {fixed}")
        return {RESULT: array.reshape(shape)}

    return Work({"from": config.from_}, outputs, run)


def each_work(config: EachConfig) -> Work:
    """Every row as an item, itself a tensor of one row; for models that take one at a time."""

    def outputs(inputs: Mapping[str, TensorSpec]) -> Sequence[TensorSpec]:
        spec = inputs["from"]
        if not spec.shape:
            raise FieldError("each.from", f"is {spec}; it has no rows")
        return [TensorSpec(RESULT, spec.dtype, (1, *spec.shape[1:]))]

    def run(values: Values) -> Mapping[str, list[Array]]:
        array = values["from"]
        return {RESULT: [array[row : row + 1] for row in range(len(array))]}

    return Work(
        {"from": config.from_}, outputs, run, "spread", count=lambda values: len(values["from"])
    )
