"""What was said to the newcomer before, while it would be said to the next one too. Pure.

In a flood most requests are refused, one like the other, and nothing moves between two of them.
What is remembered holds for a moment only: what else happens on the device is not compared.
"""

from __future__ import annotations

from typing import NamedTuple

from edged.errors import QueueFullError
from edged.serving.scheduling.backlog import Backlog

MOMENT_NS = 2_000_000
ALWAYS_NS = 1 << 62


class Queue(NamedTuple):
    """The state of a queue, as far as it decides about one who would stand at its end."""

    rows: int
    length: int
    last_ns: int
    running_rows: int
    slots_held: int

    @classmethod
    def of(cls, backlog: Backlog, running_rows: int, slots_held: int) -> Queue:
        """As it is; ``slots_held`` are the runs of all on the device."""
        items = backlog.items
        last_ns = items[-1].enqueued_ns if items else 0
        return cls(backlog.rows, len(items), last_ns, running_rows, slots_held)


class Refusal(NamedTuple):
    """Why the end of a queue is no place for a request.

    Args:
        rows: of the request.
        queue: as it was.
        need_ns: a deadline that is nearer than this is too near; ALWAYS_NS where the queue is full.
        due_ns: who has an earlier deadline would not stand at the end.
        until_ns: when it has to be looked at anew.
        error: what is said; never raised, for a traceback would keep what it was raised over.
    """

    rows: int
    queue: Queue
    need_ns: int
    due_ns: int
    until_ns: int
    error: QueueFullError

    def holds(self, rows: int, deadline_ns: int | None, now_ns: int, queue: Queue) -> bool:
        """Whether the same is to be said to another one."""
        if rows != self.rows or now_ns >= self.until_ns or queue != self.queue:
            return False
        if self.need_ns == ALWAYS_NS:
            return True
        return deadline_ns is not None and self.due_ns <= deadline_ns < now_ns + self.need_ns


def full(rows: int, queue: Queue, now_ns: int, error: QueueFullError) -> Refusal:
    """The queue has no room for so many rows."""
    return Refusal(rows, queue, ALWAYS_NS, 0, now_ns + MOMENT_NS, error)
