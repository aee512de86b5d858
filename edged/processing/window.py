"""Rows of one key to windows: when one is whole, and which rows stay for the next.

Pure: a state is a value, and adding to it makes another, so that nothing is counted before it is
safe. How a state is kept is said here too, as bytes.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import numpy as np

from edged.outbox.age import Moment, age_ns
from edged.tensors import DTYPES, Array

_LATEST = 128
"""Messages that are known again, of each key: more than are mostly un-acknowledged at a time."""


class WindowState(NamedTuple):
    """What one key has.

    Args:
        rows: those that wait, in order.
        last: when the last came.
        ids: of the messages counted last, by which one that is delivered again is known.
        mark: of the rule that it was made by.
    """

    rows: Array
    last: Moment
    ids: tuple[bytes, ...] = ()
    mark: bytes = b""

    @property
    def size_bytes(self) -> int:
        """What it takes, about."""
        return self.rows.nbytes + 16 * len(self.ids) + 256


@dataclass(frozen=True, slots=True)
class WindowRule:
    """How one binding's windows are made.

    Args:
        rows: of a window.
        hop: new rows until the next.
        gap_ns: silence after which what waits is no part of the next window; 0 = none.
        shape: of a row.
        dtype: of a row.
        meaning: what rows are made of; those of another meaning are no company for ours.
    """

    rows: int
    hop: int
    gap_ns: int
    shape: tuple[int, ...]
    dtype: str
    meaning: str = ""

    @property
    def empty(self) -> Array:
        """No rows."""
        return np.empty((0, *self.shape), DTYPES[self.dtype].numpy)

    def is_broken(self, state: WindowState | None, at: Moment) -> bool:
        """Whether there was such a gap that what waits is dropped."""
        if state is None or not self.gap_ns or not len(state.rows):
            return False
        return age_ns(state.last, at) > self.gap_ns

    def add(
        self, state: WindowState | None, rows: Array, at: Moment, message: bytes = b""
    ) -> tuple[WindowState, list[Array]]:
        """Add a message's rows.

        Args:
            state: before; None for a new key.
            rows: one or more.
            at: when they came.
            message: by which it is known again; empty for none.

        Returns:
            The state after, and the windows that are whole now, in order.
        """
        ids = state.ids if state is not None else ()
        if message:
            ids = (*ids, message)[-_LATEST:]
        before = self.empty if state is None or self.is_broken(state, at) else state.rows
        found = np.concatenate([before, rows.reshape(-1, *self.shape)])
        windows, start = [], 0
        while len(found) - start >= self.rows:
            windows.append(found[start : start + self.rows])
            start += self.hop
        return WindowState(found[start:].copy(), at, ids, self.mark), windows

    def fits(self, state: WindowState) -> bool:
        """Whether it was made by this rule: other rows are no company for ours."""
        return state.mark == self.mark

    def pack(self, state: WindowState) -> bytes:
        """A state as bytes."""
        return msgspec.msgpack.encode(
            (self.mark, state.rows.tobytes(), tuple(state.last), state.ids)
        )

    def unpack(self, data: bytes) -> WindowState | None:
        """The state; None for one of other rows, or for what is none."""
        try:
            mark, rows, last, ids = _DECODER.decode(data)
        except msgspec.MsgspecError:
            return None
        array = np.frombuffer(rows, DTYPES[self.dtype].numpy) if mark == self.mark else None
        if array is None or array.size % max(1, math.prod(self.shape)):
            return None
        return WindowState(array.reshape(-1, *self.shape), Moment(*last), ids, mark)

    @property
    def mark(self) -> bytes:
        """What is another for every other rule."""
        words = f"{self.rows} {self.hop} {self.shape} {self.dtype} {self.meaning}"
        return hashlib.blake2b(words.encode(), digest_size=8).digest()


_DECODER = msgspec.msgpack.Decoder(tuple[bytes, bytes, tuple[bytes, int, int], tuple[bytes, ...]])
