"""Tensors in a body whose layout both ends know: where each lies follows from the rows alone.

Decides whether arrays are of a layout and whether bytes add up to it; never what a frame means.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from edged.errors import LocalProtocolError, TensorMismatchError
from edged.protocol.frames import ALIGNMENT, Buffer
from edged.tensors import (
    ALL_DTYPES,
    BATCH,
    BFLOAT16,
    Array,
    TensorSpec,
    describe,
    dtype_of,
    size_bytes,
)

COPY_BYTES = 4096
"""A copy of so little costs less than a view."""
_REMEMBERED_ROWS = 64
"""For so few rows it is remembered where everything lies; a peer may ask for any number."""


class _Place(NamedTuple):
    name: str
    dtype: np.dtype[np.generic]
    is_free: bool
    shape: tuple[int, ...]  # without the free axis
    size: int  # bytes, of one row where the first axis is free
    is_bool: bool


Places = tuple[tuple[str, np.dtype[np.generic], tuple[int, ...], int, int, bool], ...]
"""Of each tensor: name, dtype, shape, offset and bytes in the body, and whether it holds bools."""


class _Fixed(NamedTuple):
    """A body of one number of rows."""

    places: Places
    size: int
    form: struct.Struct | None  # writes a small body, padding included, in one go


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
        self._remembered: dict[int, _Fixed] = {}
        self._forms: dict[int, struct.Struct] = {}
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
        parts = self.parts(tensors, rows)
        if parts is None:
            return None
        _, size, form = self._fixed(rows)
        if form is not None:
            return [form.pack(*parts)], size
        body: list[Buffer] = []
        for part in parts:
            body.append(part)
            if len(part) % ALIGNMENT:
                body.append(bytes(-len(part) % ALIGNMENT))
        return body, size

    def parts(self, tensors: Mapping[str, Array], rows: int) -> list[Buffer] | None:
        """The bytes of each tensor, without padding; None when they are not of this layout."""
        parts: list[Buffer] = []
        for name, dtype, shape, _, length, _ in self._fixed(rows).places:
            array = tensors.get(name)
            if array is None or array.shape != shape:
                return None
            # The same object nearly always, which costs less to see than what it is equal to.
            if array.dtype is not dtype and array.dtype != dtype:
                given = dtype_of(array)
                if given is None or given.numpy != dtype:
                    return None
                # Of the other byte order, or of the package ml_dtypes.
                array = array.view(dtype) if dtype == BFLOAT16 else array.astype(dtype)
            if length <= COPY_BYTES:
                parts.append(array.tobytes())
            else:
                dense = np.ascontiguousarray(array)
                parts.append((dense.view("<u2") if dtype == BFLOAT16 else dense).data.cast("B"))
        return parts

    def unpack(self, data: Buffer, at: int, rows: int) -> dict[str, Array]:
        """View what lies from ``at`` to the end as named tensors.

        Raises:
            TensorMismatchError: the bytes are not those of so many rows, or a bool is neither 0
                nor 1.
        """
        if (rows == 0) == self.has_rows:
            raise TensorMismatchError(self.describe_rows(rows))
        places, size, _ = self._fixed(rows)
        if at + size != len(data):
            raise self._wrong_size(rows)
        tensors: dict[str, Array] = {}
        for name, dtype, shape, offset, length, is_bool in places:
            if length:
                # Half the price of np.ndarray, which however takes what is empty too.
                array = np.frombuffer(data, dtype, length // dtype.itemsize, at + offset)
                tensors[name] = array if len(shape) == 1 else array.reshape(shape)
            else:
                tensors[name] = np.ndarray(shape, dtype, data, at + offset)
            if is_bool and np.ndarray(length, np.uint8, data, at + offset).max() > 1:
                # Reading such a byte as a bool is undefined in the C++ of every runtime.
                raise TensorMismatchError(f'"{name}": a byte of a bool is not one of 0 and 1')
        return tensors

    def _fixed(self, rows: int) -> _Fixed:
        found = self._remembered.get(rows)
        if found is None:
            found = self._fix(rows)
            if rows <= _REMEMBERED_ROWS:
                self._remembered[rows] = found
        return found

    def _fix(self, rows: int) -> _Fixed:
        """Work out where everything lies in a body of so many rows."""
        places, size, code = [], 0, "<"
        for name, dtype, is_free, shape, one, is_bool in self._places:
            length = one * rows if is_free else one
            places.append(
                (name, dtype, (rows, *shape) if is_free else shape, size, length, is_bool)
            )
            size += length + -length % ALIGNMENT
            code += f"{length}s{-length % ALIGNMENT}x"
        form = struct.Struct(code) if size <= COPY_BYTES else None
        return _Fixed(tuple(places), size, form)

    def places(self, rows: int) -> Places:
        """Where everything lies in a body of so many rows."""
        return self._fixed(rows).places

    def form(self, rows: int, head: struct.Struct) -> struct.Struct | None:
        """What writes a small body of so many rows, behind a head, in one go.

        Args:
            rows: of the body.
            head: of the frames of this layout, always the same one.

        Returns:
            The head's values, then the parts; None when the body is not small.
        """
        found = self._forms.get(rows)
        if found is None:
            body = self._fixed(rows).form
            if body is None:
                return None
            found = struct.Struct(head.format + body.format[1:])
            if rows <= _REMEMBERED_ROWS:
                self._forms[rows] = found
        return found

    def body_bytes(self, rows: int) -> int:
        """Length of a body of so many rows."""
        return self._fixed(rows).size

    def describe_mismatch(self, tensors: Mapping[str, Array]) -> str:
        """Say what was prepared and what was given instead."""
        wanted = ", ".join(f'"{spec.name}" {spec}' for spec in self.specs)
        given = ", ".join(f'"{name[:64]}" {describe(array)}' for name, array in tensors.items())
        return f"prepared for {wanted}; got {given or 'nothing'}"

    def describe_rows(self, rows: int) -> str:
        """Say which numbers of rows there are, for one that is none of them."""
        wanted = "at least one row" if self.has_rows else "0, for no axis was left free"
        return f"{rows} rows; this prepared call takes {wanted}"

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
    dtype = ALL_DTYPES[spec.dtype]
    size = size_bytes(spec.dtype, numbers)
    return _Place(spec.name, dtype.numpy, spec.is_batched, numbers, size, dtype.name == "bool")
