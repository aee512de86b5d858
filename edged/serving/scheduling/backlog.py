"""What waits for one release, in the order of its deadlines.

Bounded by its owner; decides nothing but order. Where nobody has a deadline it is a plain list.
"""

from __future__ import annotations

import logging
from bisect import insort
from collections.abc import Iterable, Iterator, Sequence
from operator import is_

from edged.resident import is_away, on_host
from edged.serving.scheduling.scheduler import Waiting

log = logging.getLogger("edged.serving")

PATIENCE_NS = 10_000_000_000
"""A request without a deadline has its place in the order as if it had this one, which is what an
MQTT binding gives a message: requests that have one would else go before it for ever. Longer than
most queues last, or those without would go before those with."""


def due_ns(item: Waiting) -> int:
    """The place of a request in its queue, monotonic nanoseconds."""
    deadline_ns = item.request.deadline_ns
    return deadline_ns if deadline_ns is not None else item.enqueued_ns + PATIENCE_NS


class Backlog:
    """Requests that wait; the earliest deadline first, and in order of arrival where they agree."""

    __slots__ = ("items", "rows", "size_bytes", "timed")

    def __init__(self) -> None:
        self.items: list[Waiting] = []
        """Read by whoever forms batches; changed here only."""
        self.rows = 0
        self.size_bytes = 0
        self.timed = 0
        """How many of them have a deadline."""

    def add(self, item: Waiting) -> None:
        """Let one wait."""
        self.rows += item.rows
        self.size_bytes += item.size_bytes
        self.place(item)

    def place(self, item: Waiting) -> None:
        """Put one where it belongs; who calls this counts its rows and bytes."""
        items, deadline_ns = self.items, item.request.deadline_ns
        if deadline_ns is not None:
            self.timed += 1
        elif not self.timed:
            items.append(item)
            return
        if not items or due_ns(items[-1]) <= (due_ns(item) if deadline_ns is None else deadline_ns):
            items.append(item)
        else:
            insort(items, item, key=due_ns)

    def restore(self, items: Iterable[Waiting]) -> None:
        """Let wait again what was taken out to be run and was not."""
        if self.timed:
            for item in items:
                self.add(item)
            return
        again, self.items = [*items], [*items, *self.items]
        for item in again:
            self.rows += item.rows
            self.size_bytes += item.size_bytes
            self.timed += item.request.deadline_ns is not None

    def remove(self, items: Sequence[Waiting]) -> None:
        """Take out some that wait."""
        if len(items) == len(self.items):
            self.items = []
            self.rows = self.size_bytes = self.timed = 0
            return
        count = len(items)
        if all(map(is_, items, self.items)):
            # The first ones, as nearly always. In place: of a request in a hundred thousand parts,
            # each run would else copy all that are left.
            del self.items[:count]
        else:
            gone = set(map(id, items))
            self.items = [item for item in self.items if id(item) not in gone]
        for item in items:
            self.rows -= item.rows
            self.size_bytes -= item.size_bytes
            self.timed -= item.request.deadline_ns is not None

    def clear(self) -> tuple[Waiting, ...]:
        """Take out all; returns them."""
        items, self.items = self.items, []
        self.rows = self.size_bytes = self.timed = 0
        return tuple(items)

    def fetch(self) -> tuple[Waiting, ...]:
        """Copy to the host what requests have on a device, for a session that does not know it.

        Returns:
            Those whose inputs were lost with their device; they wait no longer.
        """
        lost = []
        for item in self.items:
            if is_away(item.request.inputs):
                try:
                    item.request.inputs = on_host(item.request.inputs)
                except Exception as exc:
                    log.warning("the inputs of a request cannot be fetched: %s", exc)
                    lost.append(item)
        if lost:
            self.remove(lost)
        return tuple(lost)

    def overdue(self, now_ns: int) -> tuple[Waiting, ...]:
        """Those whose deadline has passed."""
        if not self.timed:
            return ()
        return tuple(
            item
            for item in self.items
            if item.request.deadline_ns is not None and item.request.deadline_ns <= now_ns
        )

    @property
    def deadline_ns(self) -> int | None:
        """The first deadline, monotonic nanoseconds; None where there is none."""
        if not self.timed:
            return None
        # In their order: the first that has one has the earliest.
        return next(_deadlines(self.items))


def _deadlines(items: Iterable[Waiting]) -> Iterator[int]:
    for item in items:
        if item.request.deadline_ns is not None:
            yield item.request.deadline_ns
