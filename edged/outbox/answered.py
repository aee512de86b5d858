"""The ids of requests that were answered lately: a bounded memory, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from edged.outbox.entry import NO_ID
from edged.outbox.marks import IDS


class Answered:
    """Ids with the sequences of the entries that carry them; the oldest are forgotten."""

    def __init__(self) -> None:
        self._known: dict[bytes, int] = {}
        self._order: deque[tuple[int, bytes]] = deque()

    def __contains__(self, value: object) -> bool:
        return value in self._known

    def add(self, sequence: int, value: bytes) -> None:
        """Remember an id; ``NO_ID`` is none."""
        if value == NO_ID:
            return
        self._known[value] = sequence
        self._order.append((sequence, value))
        while len(self._order) > IDS:
            old, gone = self._order.popleft()
            if self._known.get(gone) == old:
                del self._known[gone]

    def add_all(self, ids: Iterable[tuple[int, bytes]]) -> None:
        """Remember ids in the order of their sequences."""
        for sequence, value in sorted(set(ids)):
            self.add(sequence, value)

    def between(self, first: int, last: int) -> list[tuple[int, bytes]]:
        """Those of a stretch of sequences."""
        return [one for one in self._order if first <= one[0] <= last]
