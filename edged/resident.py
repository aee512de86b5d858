"""Tensors that stay on a device between two models, in place of a copy to the host and back.

``Resident`` looks like an array where serving looks at one: dtype, shape, rows. Its numbers come to
the host only when somebody asks for them, so that whoever knows nothing of devices gets the right
ones all the same, later. ``Keeping`` is how a caller asks for such answers. Decides nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeGuard, cast

import numpy as np

from edged.tensors import Array


class Memory(Protocol):
    """A tensor's memory on a device; given back when nothing refers to it any more."""

    pointer: int
    """As the device counts."""

    def read(self) -> Array:
        """All of it, copied to the host."""
        ...


class Resident:
    """A C-contiguous tensor on a device, or some rows of one.

    Args:
        memory: what it lies in.
        place: the device, e.g. ``cuda:0``.
        dtype: of its elements.
        shape: its own.
        offset: elements of the memory before its first.
    """

    __slots__ = ("_memory", "_offset", "dtype", "place", "shape")

    def __init__(
        self,
        memory: Memory,
        place: str,
        dtype: np.dtype[Any],
        shape: Sequence[int],
        offset: int = 0,
    ) -> None:
        self._memory = memory
        self._offset = offset
        self.place = place
        self.dtype = dtype
        self.shape = tuple(shape)

    @property
    def pointer(self) -> int:
        """Where it begins, as the device counts."""
        return self._memory.pointer + self._offset * self.dtype.itemsize

    @property
    def ndim(self) -> int:
        """How many axes it has."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of its elements."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def reshape(self, *shape: int) -> Resident:
        """The same elements under another shape of as many."""
        if math.prod(shape) != math.prod(self.shape):
            raise ValueError(f"{list(self.shape)} does not become {list(shape)}")
        return Resident(self._memory, self.place, self.dtype, shape, self._offset)

    def __getitem__(self, rows: int | slice) -> Resident:
        """One row, without its axis, or some that lie in order; IndexError for any others."""
        count, rest = len(self), self.shape[1:]
        if isinstance(rows, int):
            start, shape = rows + count if rows < 0 else rows, rest
            is_there = 0 <= start < count
        else:
            start, stop, step = rows.indices(count)
            shape, is_there = (max(0, stop - start), *rest), step == 1
        if not is_there:
            raise IndexError(f"{rows} is no row, and no rows in order, of {count}")
        offset = self._offset + start * math.prod(rest)
        return Resident(self._memory, self.place, self.dtype, shape, offset)

    def __iter__(self) -> Iterator[Resident]:
        return (self[row] for row in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("it lies on a device; the host gets a copy or nothing")
        size = math.prod(self.shape)
        flat = self._memory.read().reshape(-1)[self._offset : self._offset + size]
        # Not a view of what was read: that would keep all rows for the sake of one.
        return np.array(flat.reshape(self.shape), dtype)

    def __array_function__(
        self, call: Callable[..., Any], _types: Any, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Any:
        """What NumPy does with it happens on the host; rows that lie in order are joined here."""
        if call is np.concatenate:
            parts = list(args[0])
            made = joined(parts) if len(args) == 1 and not kwargs else None
            if made is not None:
                return made
            return call([np.asarray(part) for part in parts], *args[1:], **kwargs)
        here = [np.asarray(one) if isinstance(one, Resident) else one for one in args]
        return call(*here, **kwargs)

    def with_rows(self, rows: int) -> Resident:
        """From its first row on, so many of the memory's."""
        shape = (rows, *self.shape[1:])
        return Resident(self._memory, self.place, self.dtype, shape, self._offset)

    def follows(self, other: Resident) -> bool:
        """Whether its rows begin where those of ``other`` end."""
        return (
            self._memory is other._memory
            and self.dtype == other.dtype
            and self.shape[1:] == other.shape[1:]
            and self._offset == other._offset + math.prod(other.shape)
        )


def joined(parts: Sequence[Any]) -> Resident | None:
    """Rows of one tensor, in their order and side by side, as one; None where they are not that.

    So a batch that one model has run is a batch for the next one too, and nothing is copied.
    """
    first = parts[0]
    if not all(isinstance(part, Resident) and part.ndim for part in parts):
        return None
    if not all(b.follows(a) for a, b in itertools.pairwise(parts)):
        return None
    joint: Resident = first.with_rows(sum(len(part) for part in parts))
    return joint


class Keeping(dict[str, Array]):
    """Inputs of a run; of its outputs those named here may stay on the device.

    Args:
        inputs: as of any run.
        names: outputs for which the caller takes a ``Resident``.
    """

    __slots__ = ("names",)

    def __init__(self, inputs: Mapping[str, Array], names: frozenset[str]) -> None:
        super().__init__(inputs)
        self.names = names

    def stacked(self, made: Mapping[str, Array], others: Iterable[object]) -> Mapping[str, Array]:
        """The inputs of a batch: its outputs stay there if everybody in it takes them so."""
        alike = all(type(one) is Keeping and one.names == self.names for one in others)
        return Keeping(made, self.names) if alike else made


def place_of(session: object) -> str:
    """The device where a session takes and gives such tensors; empty where it knows none."""
    place = getattr(session, "place", "")
    return place if isinstance(place, str) else ""


def is_resident(array: object) -> TypeGuard[Resident]:
    """Whether a tensor lies on a device."""
    return type(array) is Resident


def is_away(tensors: Mapping[str, Array]) -> bool:
    """Whether any of them lies on a device."""
    return any(is_resident(one) for one in tensors.values())


def on_host(tensors: Mapping[str, Array]) -> dict[str, Array]:
    """The same tensors, those on a device copied to the host."""
    return {name: np.asarray(one) for name, one in tensors.items()}


def as_array(resident: Resident) -> Array:
    """The same object, as what it passes for."""
    return cast("Array", resident)
