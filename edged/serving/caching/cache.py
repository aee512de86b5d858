"""Which answers are kept: what is asked for again stays, within a bound of bytes.

Pure: told the time, and knows nothing of requests or runs. An answer that was asked for again is
protected from those that were asked for once: most readings of a sensor never come twice.
Source: segmented LRU (Karedla, Love and Wherry, "Caching strategies to improve disk system
performance", 1994).
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from edged.tensors import Array

_PROTECTED = (4, 5)
"""The share of the bound that is for what was asked for again."""
_BOOKS = 592
"""What an answer takes beside its arrays: a key of 32 bytes, the entry, the mapping of its names,
and a place in an ordered table. Measured on CPython 3.11; a test holds it against what is taken."""
_SHAPE = 48
"""The lengths and strides of an array, which its size does not tell."""


class Kept(NamedTuple):
    """An answer that nobody can change: its arrays view bytes objects.

    Args:
        outputs: by name.
        size: bytes that keeping it takes.
    """

    outputs: Mapping[str, Array]
    size: int

    def views(self) -> dict[str, Array]:
        """The arrays for one who asked; what is done to their shapes is nobody else's."""
        return {name: array.view() for name, array in self.outputs.items()}


def freeze(outputs: Mapping[str, Array]) -> Kept:
    """Copy an answer into memory that cannot be written to."""
    frozen: dict[str, Array] = {}
    size = _BOOKS
    for name, array in outputs.items():
        if array.dtype.hasobject:
            frozen[name] = array.copy()
            frozen[name].flags.writeable = False
            size += array.nbytes + sys.getsizeof(frozen[name]) + _SHAPE
            continue
        data = array.tobytes()
        frozen[name] = np.frombuffer(data, array.dtype).reshape(array.shape)
        # Two headers: that of the array, and that of the flat one which it views.
        size += sys.getsizeof(data) + 2 * sys.getsizeof(frozen[name]) + _SHAPE
    return Kept(frozen, size)


class _Entry(NamedTuple):
    owner: bytes
    kept: Kept
    at_ns: int


class ResponseCache:
    """The kept answers of one model.

    Args:
        size: bytes that they may take.
        ttl_ns: how long one is given again, nanoseconds; None for no limit.
    """

    def __init__(self, size: int, ttl_ns: int | None = None) -> None:
        self.size, self.ttl_ns = int(size), ttl_ns
        self._once: OrderedDict[bytes, _Entry] = OrderedDict()
        self._again: OrderedDict[bytes, _Entry] = OrderedDict()
        """Each the longest unused first."""
        self._once_bytes = self._again_bytes = 0
        self._sole: bytes | None = None
        self.hits = self.joined = self.misses = self.evicted = 0
        """``joined``: who waited for a run that another one had asked for."""

    def __len__(self) -> int:
        return len(self._once) + len(self._again)

    @property
    def used(self) -> int:
        """What is taken now; never more than ``size``."""
        return self._once_bytes + self._again_bytes

    def resize(self, size: int, ttl_ns: int | None) -> None:
        """Have another bound from now on; what is over it goes."""
        self.size, self.ttl_ns = int(size), ttl_ns
        self._fit()

    def get(self, key: bytes, now_ns: int) -> Kept | None:
        """The answer of a key, or None.

        Args:
            key: digest of who answers and what is asked.
            now_ns: monotonic clock, nanoseconds.
        """
        entry = self._again.get(key)
        if entry is not None:
            if self._is_old(entry, now_ns):
                self._remove(key)
                return None
            self._again.move_to_end(key)
            return entry.kept
        entry = self._once.pop(key, None)
        if entry is None:
            return None
        self._once_bytes -= entry.kept.size
        if self._is_old(entry, now_ns):
            return None
        self._again[key] = entry
        self._again_bytes += entry.kept.size
        self._demote()
        return entry.kept

    def put(self, owner: bytes, key: bytes, kept: Kept, now_ns: int) -> None:
        """Keep an answer; one that is larger than all that may be kept is let go.

        Args:
            owner: who gave it; see ``drop``.
            key: as for ``get``.
            kept: the answer.
            now_ns: monotonic clock, nanoseconds.
        """
        self._remove(key)
        if kept.size > self.size or self._sole not in (None, owner):
            return
        self._once[key] = _Entry(owner, kept, now_ns)
        self._once_bytes += kept.size
        self._fit()

    def take_over(self, owner: bytes) -> None:
        """From now on one alone gives answers; all that others gave is forgotten."""
        self.clear()
        self._sole = owner

    def drop(self, owner: bytes) -> None:
        """Forget what one gave."""
        for entries in (self._once, self._again):
            for key in [key for key, entry in entries.items() if entry.owner == owner]:
                self._remove(key)

    def clear(self) -> None:
        """Forget everything."""
        self._once.clear()
        self._again.clear()
        self._once_bytes = self._again_bytes = 0

    def as_dict(self) -> dict[str, int]:
        """For the status page."""
        return {
            "size_bytes": self.size,
            "bytes": self.used,
            "answers": len(self),
            "hits": self.hits,
            "joined": self.joined,
            "misses": self.misses,
            "evicted": self.evicted,
        }

    def _is_old(self, entry: _Entry, now_ns: int) -> bool:
        return self.ttl_ns is not None and now_ns - entry.at_ns >= self.ttl_ns

    def _remove(self, key: bytes) -> None:
        entry = self._once.pop(key, None)
        if entry is not None:
            self._once_bytes -= entry.kept.size
        entry = self._again.pop(key, None)
        if entry is not None:
            self._again_bytes -= entry.kept.size

    def _demote(self) -> None:
        """Let those be taken back that were asked for again long ago; they are the last to go."""
        most = self.size * _PROTECTED[0] // _PROTECTED[1]
        while self._again_bytes > most and len(self._again) > 1:
            key, entry = self._again.popitem(last=False)
            self._again_bytes -= entry.kept.size
            self._once[key] = entry
            self._once_bytes += entry.kept.size

    def _fit(self) -> None:
        self._demote()
        while self._once_bytes + self._again_bytes > self.size:
            if self._once:
                _, entry = self._once.popitem(last=False)
                self._once_bytes -= entry.kept.size
            else:
                _, entry = self._again.popitem(last=False)
                self._again_bytes -= entry.kept.size
            self.evicted += 1
