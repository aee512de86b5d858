"""The latest columns of a joined topic: whether they still count, and how they are kept. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import numpy as np

from edged.outbox.age import Moment, age_ns
from edged.tensors import DTYPES, Array


class LatestRow(NamedTuple):
    """A topic's columns, when they came, and the mark of the rule that they were taken by."""

    row: Array
    at: Moment
    mark: bytes = b""


@dataclass(frozen=True, slots=True)
class LatestRule:
    """How one joined topic's columns are taken.

    Args:
        width: how many there are.
        dtype: of the input.
        max_age_ns: older ones do not count; 0 = they always do.
        meaning: what they are; those of another meaning are none of ours.
    """

    width: int
    dtype: str
    max_age_ns: int
    meaning: str

    def counts(self, latest: LatestRow, at: Moment) -> bool:
        """Whether it is young enough."""
        return not self.max_age_ns or age_ns(latest.at, at) <= self.max_age_ns

    def fits(self, latest: LatestRow) -> bool:
        """Whether it was taken by this rule: other columns are none of ours."""
        return latest.mark == self.mark

    def pack(self, latest: LatestRow) -> bytes:
        """As bytes."""
        return msgspec.msgpack.encode((self.mark, latest.row.tobytes(), tuple(latest.at)))

    def unpack(self, data: bytes) -> LatestRow | None:
        """The columns; None for other ones, or for what is none."""
        try:
            mark, row, at = _DECODER.decode(data)
        except msgspec.MsgspecError:
            return None
        dtype = DTYPES[self.dtype].numpy
        if mark != self.mark or len(row) != self.width * dtype.itemsize:
            return None
        return LatestRow(np.frombuffer(row, dtype), Moment(*at), mark)

    @property
    def mark(self) -> bytes:
        """What is another for every other rule."""
        words = f"{self.width} {self.dtype} {self.meaning}"
        return hashlib.blake2b(words.encode(), digest_size=8).digest()


_DECODER = msgspec.msgpack.Decoder(tuple[bytes, bytes, tuple[bytes, int, int]])
