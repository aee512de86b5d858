"""What a run of a bound session leaves for the next one: pinned memory, and its binding.

Knows no backend: a binding is whatever the session made.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from edged.runtimes.cuda import CudaError, Pinned, quietly
from edged.tensors import Array

_MOST_PINNED = 64 << 20
"""A longer tensor is copied from where it lies: pinned memory is missing everywhere else."""
CLOSED = "the session is closed"


class Pins(Protocol):
    """The part of ``Cuda`` that gives memory which the device reads by itself."""

    def use(self) -> None:
        """Make the device the calling thread's."""
        ...

    def pin(self, size: int) -> Pinned:
        """Take so many bytes; raises CudaError."""
        ...

    def unpin(self, pinned: Pinned) -> None:
        """Give them back."""
        ...


class Ready(NamedTuple):
    """A binding that was run, from and to memory of a lane's own.

    A run of the same shapes needs all of it again: half of what a run costs besides the run.

    Args:
        binding: as run.
        inputs: by name, where they are copied to.
        outputs: by name, where they come to lie.
    """

    binding: Any
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]

    def takes(self, inputs: Mapping[str, Array]) -> bool:
        """Whether these are arrays of the host, of the very types and shapes."""
        if len(inputs) != len(self.inputs):
            return False
        for name, room in self.inputs.items():
            array = inputs.get(name)
            if type(array) is not np.ndarray:
                return False
            if array.shape != room.shape or array.dtype != room.dtype:
                return False
        return True


class Lane:
    """What one run uses that the next one may use again.

    Args:
        pins: where its memory comes from; None where copies go from any memory.
    """

    ready: Ready | None = None

    def __init__(self, pins: Pins | None) -> None:
        self._pins = pins
        self._rooms: dict[tuple[bool, str], Pinned] = {}

    def room(
        self, name: str, dtype: np.dtype[Any], shape: Sequence[int], *, out: bool
    ) -> Array | None:
        """Pinned memory for a tensor, with something old in it; None where there is none."""
        size = math.prod(shape) * dtype.itemsize
        key = (out, name)
        have = self._rooms.get(key)
        if self._pins is None or not 0 < size <= _MOST_PINNED:
            return None
        if have is None or have.array.nbytes < size:
            try:
                self._pins.use()
                if have is not None:
                    self._pins.unpin(self._rooms.pop(key))
                self._rooms[key] = have = self._pins.pin(size)
            except CudaError:
                return None
        return have.array[:size].view(dtype).reshape(shape)

    def is_own(self, name: str, array: Array) -> bool:
        """Whether an input lies in memory of the lane's."""
        have = self._rooms.get((False, name))
        return have is not None and np.may_share_memory(have.array, array)

    def close(self) -> None:
        """Give everything back."""
        self.ready = None  # it points into the memory
        rooms, self._rooms = self._rooms, {}
        if self._pins is None or not rooms:
            return
        with quietly:  # a GPU that failed takes nothing back
            self._pins.use()
        for pinned in rooms.values():
            with quietly:
                self._pins.unpin(pinned)


class Lanes:
    """The lanes of a session; each run takes one and gives it back.

    Args:
        pins: see ``Lane``.
        most: so many at once.
    """

    def __init__(self, pins: Pins | None, most: int) -> None:
        self._pins = pins
        self._left = most
        self._idle: list[Lane] = []
        self._guard = threading.Condition()
        self._is_closed = False

    def take(self) -> Lane:
        """Wait for one; raises ValueError once they are closed."""
        with self._guard:
            while not self._is_closed and not self._idle and not self._left:
                self._guard.wait()
            if self._is_closed:
                raise ValueError(CLOSED)
            if self._idle:
                return self._idle.pop()
            self._left -= 1
        return Lane(self._pins)

    def give(self, lane: Lane) -> None:
        """The run is over."""
        with self._guard:
            if not self._is_closed:
                self._idle.append(lane)
                self._guard.notify()
                return
        lane.close()

    def close(self) -> None:
        """Close those that nobody uses; the others when their run ends."""
        with self._guard:
            self._is_closed = True
            idle, self._idle = self._idle, []
            self._guard.notify_all()
        for lane in idle:
            lane.close()
