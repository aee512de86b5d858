"""JSON values to arrays: which Python values a tensor of some dtype may hold.

Decides type, range and finiteness value by value and names the first that does not fit; never
rounds, wraps or guesses.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from edged.errors import DecodeError, TooLargeError
from edged.tensors import Array, DType

MAX_ROWS = 4096
"""Rows of one message; more belongs in several messages, so that others get their turn."""

_FEW = 64
"""So few numbers are looked at faster in Python than in NumPy."""
_NUMBERS = {int, float}
_INFINITY = float("inf")
_LARGEST = {name: float(np.finfo(name).max) for name in ("float16", "float32", "float64")}
_KINDS = {dict: "an object", list: "a list", str: "text", type(None): "null"}


def array_from_values(values: list[Any], dtype: DType, name_of: Callable[[int], str]) -> Array:
    """Make a flat array of JSON values.

    Args:
        values: as the JSON parser gave them.
        dtype: of the result.
        name_of: says where value number i stood, for the error.

    Returns:
        One axis, ``len(values)`` long.

    Raises:
        DecodeError: a value is no number or boolean, not whole where it must be, out of range, or
            not finite in this dtype.
    """
    kinds = set(map(type, values))
    if not kinds <= {int, float, bool}:
        index = next(i for i, value in enumerate(values) if type(value) not in {int, float, bool})
        raise DecodeError(
            f"{name_of(index)}: expected a number, true or false; "
            f"got {_KINDS.get(type(values[index]), 'something else')}"
        )
    if dtype.numpy.kind == "f":
        return _floats(values, dtype, name_of)
    low, high = (0, 1) if dtype.numpy.kind == "b" else _range(dtype)
    for index, value in enumerate(values):
        if isinstance(value, float) and not value.is_integer():
            raise DecodeError(f"{name_of(index)}: expected a whole number for {dtype.name}")
        if not low <= value <= high:
            raise DecodeError(f"{name_of(index)}: {dtype.name} holds {low} to {high}")
    if float in kinds:
        values = [int(value) for value in values]
    return np.array(values, dtype=dtype.numpy)


def are_plain(values: list[Any], dtype: str) -> bool:
    """Whether all are numbers that a tensor of floats holds as they are; no, where in doubt."""
    largest = _LARGEST[dtype]
    if not set(map(type, values)) <= _NUMBERS or not -largest <= min(values):
        return False
    total = sum(values) if max(values) <= largest else _INFINITY
    return bool(total - total == 0)  # nor is one of them no number


def check_rows(rows: int) -> None:
    """Refuse a message of more than MAX_ROWS rows; raises TooLargeError."""
    if rows > MAX_ROWS:
        raise TooLargeError(f"{rows} rows in one payload; the limit is {MAX_ROWS}")


def _range(dtype: DType) -> tuple[int, int]:
    info = np.iinfo(dtype.numpy)
    return int(info.min), int(info.max)


def _floats(values: list[Any], dtype: DType, name_of: Callable[[int], str]) -> Array:
    largest = _LARGEST[dtype.name]
    if len(values) <= _FEW and -largest <= min(values) and max(values) <= largest:
        return np.array(values, dtype=dtype.numpy)
    try:
        with np.errstate(over="ignore"):
            array = np.array(values, dtype=dtype.numpy)
        if np.isfinite(array).all():
            return array
        index = int(np.argmin(np.isfinite(array)))
    except OverflowError:  # a whole number beyond float64
        index = next(i for i, v in enumerate(values) if abs(v) > sys.float_info.max)
    raise DecodeError(f"{name_of(index)}: the number is too large for {dtype.name}")
