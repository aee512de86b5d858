"""The part of a release that lets requests in, and learns from those it let in.

Decides nothing: whether one would be late is ``admission.lateness_ns``'s decision, and what a queue
costs is ``forecast.Forecast``'s. Used from the event loop only.
"""

from __future__ import annotations

from edged.config.schema import QueueConfig
from edged.errors import QueueFullError
from edged.serving import refusal
from edged.serving.executor import BatchResult
from edged.serving.lifecycle import ReleaseKey
from edged.serving.resting import Resting
from edged.serving.scheduling.admission import Pace, lateness_ns, queue_full, too_late
from edged.serving.scheduling.backlog import due_ns
from edged.serving.scheduling.capacity import places_of
from edged.serving.scheduling.scheduler import Waiting
from edged.serving.scheduling.slots import DeviceSlots

_BUSY = 2
"""So many times longer than in a calm moment a run takes at most, for whoever must say now what
holds for as long as a connection does."""


class Entrance(Resting):
    """See above.

    Args:
        key: of the release.
        number: of the release.
    """

    rank: int
    slots: DeviceSlots
    batch_rows: int
    instances: int
    worth_another: int
    """So many rows must wait before a run begins beside another of its own."""

    def __init__(self, key: ReleaseKey, number: int) -> None:
        super().__init__(key, number)
        self.running = self.running_rows = 0
        self._refusal: refusal.Refusal | None = None

    @property
    def is_inline(self) -> bool:
        """Whether it is fast enough to run on the event loop."""
        raise NotImplementedError

    @property
    def is_short(self) -> bool:
        """Whether its runs are short; see ``precedence.Want``."""
        raise NotImplementedError

    @property
    def places(self) -> int:
        """Requests that somebody far away may have under way; 0 = not known."""
        forecast, rows = self.forecast, self.batch_rows
        run_ns = min(forecast.likely_ns(rows), _BUSY * forecast.least_ns(rows))
        return places_of(self.batch_rows * self.instances, run_ns, self.config.queue.max_rows)

    def shuts_out(self, rows: int, deadline_ns: int | None, now_ns: int) -> QueueFullError | None:
        """What a request is told that would be refused as the one before; None to look closely.

        Args:
            rows: of the request.
            deadline_ns: monotonic clock, nanoseconds; None for no deadline.
            now_ns: likewise.
        """
        known = self._refusal
        if known is None or self.cache is not None:
            return None
        return known.error if known.holds(rows, deadline_ns, now_ns, self._queue()) else None

    def _queue(self) -> refusal.Queue:
        return refusal.Queue.of(self.backlog, self.running_rows, self.slots.held.total)

    def refuse_full(self, item: Waiting, limits: QueueConfig) -> QueueFullError:
        """What to say to a request for which the queue has no room."""
        now_ns, backlog = item.enqueued_ns, self.backlog
        if backlog.rows + item.rows > limits.max_rows:
            error = queue_full(self.owner, limits, backlog, self.forecast.slow_row_ns)
            self._refusal = refusal.full(item.rows, self._queue(), now_ns, error)
        return queue_full(self.owner, limits, backlog, self.forecast.slow_row_ns)

    def refuse_late(self, item: Waiting, rows: int) -> None:
        """Look at a request with a deadline, while something waits or runs.

        Args:
            item: the newcomer.
            rows: its own and those that wait.

        Raises:
            QueueFullError: it would be late, or make one late that waits.
        """
        now_ns, forecast = item.enqueued_ns, self.forecast
        is_outranked = not self.slots.has_plenty and self.rank > 0 and not self.is_inline
        if not is_outranked:
            # Nearly all have much more time than that, and need no closer look.
            silent_ns = now_ns - (forecast.last_ns or now_ns)
            worst_ns = (rows + self.running_rows) * forecast.slow_row_ns + forecast.slow_gap_ns
            deadline_ns = item.request.deadline_ns
            if deadline_ns is None or now_ns + silent_ns + worst_ns <= deadline_ns:
                return
        pace = self._pace(now_ns, is_outranked=is_outranked)
        if late_ns := lateness_ns(self.backlog, item, now_ns, pace):
            self._note_late(item, late_ns, pace)
            raise too_late(self.owner, self.backlog.rows + pace.ahead_rows, late_ns)

    def _note_late(self, item: Waiting, late_ns: int, pace: Pace) -> None:
        now_ns, deadline_ns, backlog = item.enqueued_ns, item.request.deadline_ns, self.backlog
        queue = backlog.items
        if deadline_ns is None or (queue and due_ns(queue[-1]) > deadline_ns):
            return  # it may be another one that would be late
        error = too_late(self.owner, backlog.rows + pace.ahead_rows, late_ns)
        self._refusal = refusal.Refusal(
            item.rows,
            self._queue(),
            need_ns=deadline_ns + late_ns - now_ns,
            due_ns=due_ns(queue[-1]) if queue else 0,
            until_ns=now_ns + refusal.MOMENT_NS,
            error=error,
        )

    def learn(self, result: BatchResult, now_ns: int, *, is_queued: bool) -> None:
        """Note a run that ended; ``is_queued`` when more waits than is in the queue."""
        items = [outcome.item for outcome in result.outcomes]
        since_ns = min(item.enqueued_ns for item in items)
        is_queued = is_queued or bool(self.backlog.items)
        self.forecast.learn(result.run_ns, result.rows, now_ns, since_ns, is_queued=is_queued)
        self.regret(items, now_ns, now_ns)

    def _pace(self, now_ns: int, *, is_outranked: bool) -> Pace:
        forecast, queue = self.forecast, self.backlog.items
        gap_ns = forecast.gap_ns(now_ns, queue[0].enqueued_ns if queue else now_ns)
        is_next = self.running < self.instances and self.worth_another == 1
        ahead_rows = 0 if is_next else self.running_rows
        first_ns = gap_ns if self.running and (queue or ahead_rows) else 0.0
        if is_outranked and not self.slots.has_room(self):
            # What was measured may be of those only who found a slot free: who waits for one gets
            # no more of the device than the higher classes leave.
            left = self.slots.left_for(self.rank)
            gap_ns = max(gap_ns, forecast.full_ns / self.instances / left)
            first_ns = max(gap_ns, self.slots.kept_out_ns(self.rank, now_ns))
        return Pace(gap_ns / self.batch_rows, ahead_rows, first_ns, forecast)
