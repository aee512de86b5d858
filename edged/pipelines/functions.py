"""What expressions can do: operators and functions, each a pure one of NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from edged.tensors import DTYPES, Array


class Function(NamedTuple):
    """One thing that can be done.

    Args:
        compute: with NumPy.
        operands: how many.
        kind: ``elements``: one result for each; ``reduce``: over one axis or all; ``along``: over
            an axis, the shape stays; ``expand``: a new axis of one entry; ``cast``: another dtype.
    """

    compute: Callable[..., Any]
    operands: int
    kind: str = "elements"


def _softmax(x: Array, axis: int) -> Array:
    powers = np.exp(x - x.max(axis=axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis=axis, keepdims=True))


def _normalize(x: Array, axis: int) -> Array:
    # Of zeros alone there is no direction; they stay zeros.
    length = np.sqrt(np.sum(x * x, axis=axis, keepdims=True))
    return np.asarray(x / np.maximum(length, np.asarray(1e-12, length.dtype)))


def _size(x: Array, axis: int | None) -> Array:
    if axis is None:
        return np.asarray(x.size, np.int64)
    shape = list(x.shape)
    length = shape.pop(axis)
    return np.full(shape, length, np.int64)


def _sigmoid(x: Array) -> Array:
    small = np.exp(-np.abs(x))
    one = np.ones((), x.dtype)
    return np.asarray(np.where(x >= 0, one, small) / (one + small))


def _cast(name: str) -> Function:
    dtype = DTYPES[name].numpy
    return Function(lambda x: x.astype(dtype), 1, "cast")


FUNCTIONS: dict[str, Function] = {
    "+": Function(np.add, 2),
    "-": Function(np.subtract, 2),
    "*": Function(np.multiply, 2),
    "/": Function(np.true_divide, 2),
    "//": Function(np.floor_divide, 2),
    "%": Function(np.remainder, 2),
    "**": Function(np.power, 2),
    "<": Function(np.less, 2),
    "<=": Function(np.less_equal, 2),
    ">": Function(np.greater, 2),
    ">=": Function(np.greater_equal, 2),
    "==": Function(np.equal, 2),
    "!=": Function(np.not_equal, 2),
    "and": Function(np.logical_and, 2),
    "or": Function(np.logical_or, 2),
    "not": Function(np.logical_not, 1),
    "negative": Function(np.negative, 1),
    "abs": Function(np.abs, 1),
    "exp": Function(np.exp, 1),
    "log": Function(np.log, 1),
    "sqrt": Function(np.sqrt, 1),
    "round": Function(np.round, 1),
    "floor": Function(np.floor, 1),
    "ceil": Function(np.ceil, 1),
    "minimum": Function(np.minimum, 2),
    "maximum": Function(np.maximum, 2),
    "where": Function(np.where, 3),
    "clip": Function(np.clip, 3),
    "sigmoid": Function(_sigmoid, 1),
    "softmax": Function(_softmax, 1, "along"),
    "normalize": Function(_normalize, 1, "along"),
    "expand": Function(np.expand_dims, 1, "expand"),
    "min": Function(np.min, 1, "reduce"),
    "max": Function(np.max, 1, "reduce"),
    "sum": Function(np.sum, 1, "reduce"),
    "mean": Function(np.mean, 1, "reduce"),
    "any": Function(np.any, 1, "reduce"),
    "all": Function(np.all, 1, "reduce"),
    "argmax": Function(np.argmax, 1, "reduce"),
    "size": Function(_size, 1, "reduce"),
    **{name: _cast(name) for name in DTYPES},
}
"""Everything that can be done. Operators are functions whose names cannot be written."""
WORDS = tuple(name for name in FUNCTIONS if name.isalnum() and name not in ("and", "or", "not"))
"""Functions that are written by their name."""
OVER_AXES = ("reduce", "along", "expand")
"""Kinds of functions that take an axis."""
