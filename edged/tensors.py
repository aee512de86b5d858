"""What a tensor is called, holds and measures: dtypes, shapes with named axes, and the checks.

Decides whether an array fits a signature. Never converts one: a silent cast would hide a client's
mistake. Names of the dtypes are NumPy's; ``DTYPES`` also has the Open Inference Protocol's.
``ALL_DTYPES`` adds what NumPy has no numbers for, and what only passes through: see there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

import numpy as np

from edged.errors import TensorMismatchError

Array = np.ndarray[Any, np.dtype[Any]]
Axis = int | str

BATCH = "batch"
"""The name of the axis along which rows of different requests may be joined."""


class DType(NamedTuple):
    """One element type in its three spellings."""

    name: str
    numpy: np.dtype[Any]
    oip: str
    size_bytes: int


def _dtype(name: str, oip: str) -> DType:
    # By its code: then it is the very object that arrays have, which compares faster.
    numpy_dtype = np.dtype(np.dtype(name).newbyteorder("<").str)
    return DType(name, numpy_dtype, oip, numpy_dtype.itemsize)


DTYPES: dict[str, DType] = {
    entry.name: entry
    for entry in (
        _dtype("bool", "BOOL"),
        _dtype("int8", "INT8"),
        _dtype("int16", "INT16"),
        _dtype("int32", "INT32"),
        _dtype("int64", "INT64"),
        _dtype("uint8", "UINT8"),
        _dtype("uint16", "UINT16"),
        _dtype("uint32", "UINT32"),
        _dtype("uint64", "UINT64"),
        _dtype("float16", "FP16"),
        _dtype("float32", "FP32"),
        _dtype("float64", "FP64"),
    )
}


BFLOAT16: np.dtype[Any] = np.dtype([("bfloat16", "<u2")])
"""NumPy has no such numbers. Not plain uint16, for the one would pass for the other."""

ALL_DTYPES: dict[str, DType] = DTYPES | {
    "bfloat16": DType("bfloat16", BFLOAT16, "BF16", 2),
    "string": DType("string", np.dtype(object), "BYTES", 0),
}
"""With those that are carried to a model and back and that nothing here computes with.

A ``string`` has any length, so that its size follows from no shape; see ``strings.py``.
"""

_BY_NUMPY: dict[np.dtype[Any], DType] = {entry.numpy: entry for entry in ALL_DTYPES.values()}


def dtype_of(array: Array) -> DType | None:
    """What an array holds; None for what nobody carries. Of either byte order."""
    dtype = array.dtype
    found = _BY_NUMPY.get(dtype) or DTYPES.get(dtype.name)
    if found is None and dtype.kind in "SU":
        return ALL_DTYPES["string"]
    if found is None and dtype.name == "bfloat16":  # as the package ml_dtypes calls it
        return ALL_DTYPES["bfloat16"]
    return found


def to_bfloat16(numbers: Array) -> Array:
    """Numbers as bfloat16, rounded to the nearest; of halves the even one."""
    bits = np.ascontiguousarray(numbers, "<f4").view("<u4")
    is_nan = (bits & 0x7FFFFFFF) > 0x7F800000
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16
    kept = np.where(is_nan, (bits >> 16) | 0x40, rounded)
    return kept.astype("<u2").view(BFLOAT16)


def from_bfloat16(array: Array) -> Array:
    """The same numbers as float32, which holds each exactly."""
    bits = np.ascontiguousarray(array).view("<u2").astype("<u4") << 16
    return bits.view("<f4")


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """The signature of one input or output.

    Args:
        name: as the model calls it.
        dtype: a key of ALL_DTYPES.
        shape: one entry an axis, a number or the name of a free axis; ``batch`` is the row axis.
    """

    name: str
    dtype: str
    shape: tuple[Axis, ...]

    @property
    def is_batched(self) -> bool:
        """Whether rows of several requests may be stacked on axis 0."""
        return bool(self.shape) and self.shape[0] == BATCH

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(str(axis) for axis in self.shape)}]"


def size_bytes(dtype: str, shape: Sequence[int]) -> int:
    """Bytes of a dense tensor, as an unbounded Python int (NumPy's product would wrap)."""
    return math.prod(shape) * ALL_DTYPES[dtype].size_bytes


def describe(array: Array) -> str:
    """Say what an array is in the notation of TensorSpec."""
    # Objects that are not known to be strings may be anything.
    is_any = type(array) is np.ndarray and array.dtype.hasobject
    dtype = None if is_any else dtype_of(array)
    name = array.dtype.name if dtype is None else dtype.name
    return f"{name}[{','.join(map(str, array.shape))}]"


def aligned(array: Array) -> Array:
    """The same values at an address that is a multiple of their size; a copy where it is none.

    Runtimes read odd addresses, more slowly and with other sums: the last bits of an answer would
    depend on the length of what was written before the tensor.
    """
    return array if array.flags.aligned else array.copy()


def check_tensors(
    specs: Sequence[TensorSpec], tensors: Mapping[str, Array], owner: str
) -> int | None:
    """Check named tensors against a signature.

    Args:
        specs: every input that is wanted.
        tensors: what was sent.
        owner: who wants them, for messages; e.g. ``model "gate" release 3``.

    Returns:
        The number of rows (the common length of the ``batch`` axis), or None where no axis is
        called so.

    Raises:
        TensorMismatchError: a tensor is missing, unknown, of another dtype, rank or shape, or two
            axes of one name differ in length.
    """
    if len(tensors) != len(specs):
        _raise_names(specs, tensors, owner)
    axes: dict[str, int] = {}
    for spec in specs:
        array = tensors.get(spec.name)
        if array is None:
            _raise_names(specs, tensors, owner)
        if array.dtype != ALL_DTYPES[spec.dtype].numpy or array.ndim != len(spec.shape):
            raise _mismatch(spec, array, owner)
        for wanted, got in zip(spec.shape, array.shape, strict=True):
            if wanted == got:
                continue
            if not isinstance(wanted, str) or got < 1 or axes.setdefault(wanted, got) != got:
                raise _mismatch(spec, array, owner)
    return axes.get(BATCH)


def _raise_names(specs: Sequence[TensorSpec], tensors: Mapping[str, Array], owner: str) -> NoReturn:
    wanted = {spec.name for spec in specs}
    missing = sorted(wanted - set(tensors))
    unknown = sorted(set(tensors) - wanted)
    parts = []
    if missing:
        parts.append("missing input " + ", ".join(f'"{name}"' for name in missing))
    if unknown:
        parts.append("unknown input " + ", ".join(f'"{name[:64]}"' for name in unknown[:8]))
    inputs = ", ".join(f'"{spec.name}" {spec}' for spec in specs)
    raise TensorMismatchError(f"{owner}: {'; '.join(parts)}; it takes {inputs}")


def _mismatch(spec: TensorSpec, array: Array, owner: str) -> TensorMismatchError:
    return TensorMismatchError(
        f'{owner} wants {spec} for "{spec.name}"; got {describe(array)}'
        + ("" if all(array.shape) else " (an empty axis holds no rows)")
    )
