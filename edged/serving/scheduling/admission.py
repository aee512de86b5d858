"""Whether a request can be answered in time, before it is queued: pure, with the time passed in.

Whoever could only wait until its deadline is told to come back, at once; and who was taken keeps
its time: nobody is let in before it for whom it would be late.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

from edged.config.schema import QueueConfig
from edged.errors import QueueFullError
from edged.serving.scheduling.backlog import Backlog, due_ns
from edged.serving.scheduling.scheduler import RunTimes, Waiting

_SOON_NS = 1_000_000
"""Nobody is told to come back sooner: asking costs as much as a small run."""


class Pace(NamedTuple):
    """How fast a queue moves.

    Args:
        row_ns: what each row adds to the wait of those behind it, nanoseconds.
        ahead_rows: rows that are before the whole queue: those of the runs under way.
        first_ns: how long the first of all waits at the least, nanoseconds.
        times: what runs take.
    """

    row_ns: float
    ahead_rows: int
    first_ns: float
    times: RunTimes


def lateness_ns(backlog: Backlog, item: Waiting, now_ns: int, pace: Pace) -> int:
    """How late a request would be, or make one that waits already.

    Args:
        backlog: what waits.
        item: the newcomer.
        now_ns: monotonic clock, nanoseconds.
        pace: of the queue.

    Returns:
        Nanoseconds; 0 when nobody would be late because of it.
    """
    due, queue = due_ns(item), backlog.items
    if not queue or due_ns(queue[-1]) <= due:
        return _late(item, pace.ahead_rows + backlog.rows, now_ns, pace)
    place = bisect_right(queue, due, key=due_ns)
    rows = pace.ahead_rows + sum(other.rows for other in queue[:place])
    if late_ns := _late(item, rows, now_ns, pace):
        return late_ns
    for other in queue[place:]:
        # One that would be late anyhow keeps nobody out.
        late_ns = _late(other, rows + item.rows, now_ns, pace)
        if late_ns and not _late(other, rows, now_ns, pace):
            return late_ns
        rows += other.rows
    return 0


def _late(item: Waiting, rows: int, now_ns: int, pace: Pace) -> int:
    deadline_ns = item.request.deadline_ns
    if deadline_ns is None:
        return 0
    wait_ns = max(rows * pace.row_ns, pace.first_ns)
    end_ns = now_ns + int(wait_ns) + pace.times.likely_ns(item.rows)
    return max(0, end_ns - deadline_ns)


def queue_full(owner: str, limits: QueueConfig, backlog: Backlog, row_ns: float) -> QueueFullError:
    """What to say when a queue has reached its bounds and moves by a row in ``row_ns``."""
    return QueueFullError(
        f"{owner}: its queue is full ({backlog.rows} rows, {backlog.size_bytes} bytes wait; the "
        f"limits are {limits.max_rows} rows and {limits.max_size} bytes)",
        retry_after_ns=max(int(backlog.rows * row_ns), _SOON_NS),
    )


def too_late(owner: str, rows: int, late_ns: int) -> QueueFullError:
    """What to say when so many rows run or wait that somebody would be ``late_ns`` late."""
    return QueueFullError(
        f"{owner}: {rows} rows run or wait, too many for the deadline: it would be "
        f"{late_ns / 1e6:.1f} ms late",
        retry_after_ns=max(late_ns, _SOON_NS),
    )
