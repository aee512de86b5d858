"""Tensors in a body whose layout both ends know: where each lies follows from the rows alone.

Decides whether arrays are of a layout and whether bytes add up to it; never what a frame means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from edged.errors import LocalProtocolError, TensorMismatchError
from edged.protocol.frames import ALIGNMENT, Buffer
from edged.tensors import BATCH, DTYPES, Array, TensorSpec, describe, size_bytes

COPY_BYTES = 4096
"""A copy of so little costs less than a view."""


class _Place(NamedTuple):
    name: str
    dtype: np.dtype[np.generic]
    is_free: bool
    shape: tuple[int, ...]  # without the free axis
    size: int  # bytes, of one row where the first axis is free
    is_bool: bool


class BodyLayout:
    """Tensors of a body whose names, dtypes and shapes both ends know.

    Args:
        specs: in the order of the body; ``batch`` as a first axis is the free one, every other
            axis is a number.
    """

    def __init__(self, specs: Sequence[TensorSpec]) -> None:
        self.specs = tuple(specs)
        self.has_rows = any(spec.is_batched for spec in specs)
        self._places = [_place(spec) for spec in specs]
        only = self._places[0] if len(self._places) == 1 else None
        self._only = only if only is not None and not only.is_bool else None
        self._first_free = next((spec.name for spec in specs if spec.is_batched), None)

    def rows_of(self, tensors: Mapping[str, Array]) -> int:
        """The rows that named tensors have; 0 where no axis is free."""
        name = self._first_free
        array = None if name is None else tensors.get(name)
        return array.shape[0] if array is not None and array.ndim else 0

    def pack(self, tensors: Mapping[str, Array], rows: int) -> tuple[list[Buffer], int] | None:
        """Lay out the bytes of tensors, copying only what is small or not contiguous.

        Returns:
            The buffers and their length; None when the tensors are not of this layout.
        """
        body: list[Buffer] = []
        total = 0
        for name, dtype, is_free, shape, _, _ in self._places:
            array = tensors.get(name)
            if array is None or array.shape != ((rows, *shape) if is_free else shape):
                return None
            # The same object nearly always, which costs less to see than what it is equal to.
            if array.dtype is not dtype and array.dtype != dtype:
                if array.dtype.name != dtype.name:
                    return None
                array = array.astype(dtype)  # of the other byte order
            size = array.nbytes
            if size <= COPY_BYTES:
                body.append(array.tobytes())
            else:
                body.append(np.ascontiguousarray(array).data.cast("B"))
            total += size
            if size % ALIGNMENT:
                body.append(bytes(-size % ALIGNMENT))
                total += -size % ALIGNMENT
        return body, total

    def unpack(self, data: bytes | memoryview, at: int, rows: int) -> dict[str, Array]:
        """View what lies from ``at`` to the end as named tensors.

        Raises:
            TensorMismatchError: the bytes are not those of so many rows, or a bool is neither 0
                nor 1.
        """
        if (rows == 0) == self.has_rows:
            raise self._wrong_rows(rows)
        if self._only is not None:
            # One tensor: what most models take and give.
            name, dtype, is_free, shape, size, _ = self._only
            size = size * rows if is_free else size
            if at + size + -size % ALIGNMENT != len(data):
                raise self._wrong_size(rows)
            return {name: np.ndarray((rows, *shape) if is_free else shape, dtype, data, at)}
        tensors: dict[str, Array] = {}
        have = len(data)
        for name, dtype, is_free, shape, size, is_bool in self._places:
            if is_free:
                shape = (rows, *shape)  # noqa: PLW2901 - a tuple of its own would cost as much again
                size *= rows  # noqa: PLW2901
            end = at + size
            if end > have:
                raise self._wrong_size(rows)
            tensors[name] = np.ndarray(shape, dtype, data, at)
            if is_bool and np.ndarray(size, np.uint8, data, at).max() > 1:
                # Reading such a byte as a bool is undefined in the C++ of every runtime.
                raise TensorMismatchError(f'"{name}": a byte of a bool is not one of 0 and 1')
            at = end + -size % ALIGNMENT
        if at != have:
            raise self._wrong_size(rows)
        return tensors

    def body_bytes(self, rows: int) -> int:
        """Length of a body of so many rows."""
        sizes = [place.size * (rows if place.is_free else 1) for place in self._places]
        return sum(size + -size % ALIGNMENT for size in sizes)

    def describe_mismatch(self, tensors: Mapping[str, Array]) -> str:
        """Say what was prepared and what was given instead."""
        wanted = ", ".join(f'"{spec.name}" {spec}' for spec in self.specs)
        given = ", ".join(f'"{name[:64]}" {describe(array)}' for name, array in tensors.items())
        return f"prepared for {wanted}; got {given or 'nothing'}"

    def _wrong_rows(self, rows: int) -> TensorMismatchError:
        wanted = "at least one row" if self.has_rows else "0, for no axis was left free"
        return TensorMismatchError(f"{rows} rows; this prepared call takes {wanted}")

    def _wrong_size(self, rows: int) -> TensorMismatchError:
        specs = ", ".join(f'"{spec.name}" {spec}' for spec in self.specs)
        return TensorMismatchError(
            f"the body is not that of {rows} rows of {specs}: expected {self.body_bytes(rows)} "
            "bytes (each tensor padded to 8)"
        )


def _place(spec: TensorSpec) -> _Place:
    shape = spec.shape[1:] if spec.is_batched else spec.shape
    numbers = tuple(axis for axis in shape if isinstance(axis, int))
    if len(numbers) != len(shape):
        raise LocalProtocolError(
            f'"{spec.name}" {spec}: only "{BATCH}" as a first axis may be free'
        )
    dtype = DTYPES[spec.dtype]
    size = size_bytes(spec.dtype, numbers)
    return _Place(spec.name, dtype.numpy, spec.is_batched, numbers, size, dtype.name == "bool")
