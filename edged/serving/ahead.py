"""The part of a release that has a batch ready before there is a place for its run.

Either at its own threads, for the end of a run of its own, or in the hand of its device, for the
end of any run there. Both can be taken back as long as no thread has begun it.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable

from edged.serving.entrance import Entrance
from edged.serving.executor import BatchResult, Claim, run_in_time, tell
from edged.serving.instance_threads import InstanceThreads, Job
from edged.serving.lifecycle import ReleaseKey
from edged.serving.scheduling.alarm import Alarm
from edged.serving.scheduling.hand import Begin
from edged.serving.scheduling.precedence import NEVER_NS, NORMAL
from edged.serving.scheduling.scheduler import Batch, BatchLimits, deadlines_of, form_batch
from edged.system.places import places


class Ahead(Entrance):
    """See above.

    Args:
        key: of the release.
        number: of the release.
    """

    typical_run_ns: int
    is_patient: bool
    _alarm: Alarm
    _limits: BatchLimits
    _threads: InstanceThreads
    _loop: asyncio.AbstractEventLoop | None

    def __init__(self, key: ReleaseKey, number: int) -> None:
        super().__init__(key, number)
        self._is_in_line = False
        self._ahead: Claim | None = None
        self._is_in_hand = False
        """Where that is, if it is anywhere."""

    @property
    def due_ns(self) -> int:
        """The first deadline of what waits."""
        if self._is_in_hand and self._ahead is not None:
            return min(deadlines_of(self._ahead.batch.items), default=NEVER_NS)
        return self.backlog.deadline_ns or NEVER_NS

    def get_ready(self, wait_ns: int) -> Begin | None:
        """Give a batch into the hand of the device, if a full one waits that has time for that.

        That of a class that goes before others need not be full: who comes meanwhile joins it.

        Args:
            wait_ns: how long the runs take of which one has to end before.

        Returns:
            What lets it begin on a thread of its own.
        """
        if self.is_held or self.is_inline or self.remote is not None or self._ahead is not None:
            return None
        if not self.is_short or not self._is_worth_readying:
            return None
        now_ns = time.monotonic_ns()
        batch = form_batch(self.backlog.items, now_ns, self._limits)
        if not isinstance(batch, Batch) or not batch.items or batch.expired:
            return None
        if not self.has_time(batch, now_ns, wait_ns):
            return None
        self.backlog.remove(batch.items)
        claim = self._ahead = Claim(batch)
        self._is_in_hand = True
        start = self._threads.later(self.job_of(batch), min(self.running, self.instances))

        def begin() -> None:
            if claim.take():
                start()

        return begin

    @property
    def _has_room(self) -> bool:
        """Whether one more run may begin, or wait at the threads for the end of a short one."""
        if self._is_in_line or self.is_held:
            return False
        rows = self.backlog.rows
        if self.running < self.instances:
            return not self.running or rows >= self.worth_another
        if self._ahead is not None or self.remote is not None or self.is_inline:
            return False
        return self.is_short and self.running == self.instances and rows >= self.batch_rows

    @property
    def _must_line_up(self) -> bool:
        """Whether a lower class would be begun while this turn of the loop goes on."""
        if self.running >= self.instances or self.is_inline or self.is_patient:
            return False
        return self.slots.overtakes(self)

    @property
    def _is_worth_readying(self) -> bool:
        rows = self.backlog.rows
        return rows >= self.batch_rows or (rows > 0 and self.rank < NORMAL)

    @property
    def _may_join(self) -> bool:
        """Whether the batch in hand has room for who comes."""
        ahead = self._ahead
        return self._is_in_hand and ahead is not None and ahead.batch.rows < self.batch_rows

    def has_time(self, batch: Batch, now_ns: int, wait_ns: int = 0) -> bool:
        """Whether a batch may wait for the end of a run: only before its own it is looked at again.

        Args:
            batch: that would wait.
            now_ns: monotonic clock, nanoseconds.
            wait_ns: how long it may wait for another's run.
        """
        run_ns = max(self.forecast.likely_ns(batch.rows), self.typical_run_ns)
        until_ns = now_ns + max(wait_ns, run_ns) + 2 * run_ns
        return all(at_ns >= until_ns for at_ns in deadlines_of(batch.items))

    def job_of(self, batch: Batch, claim: Claim | None = None) -> Job:
        """Count a batch as under way; returns what runs it on a thread, if nobody took it back."""
        session, loop = self.session, self._loop
        assert session is not None
        assert loop is not None
        self.running += 1
        self.running_rows += batch.rows

        def job() -> Callable[[], None] | None:
            if claim is not None and not claim.take():
                return None
            core = places.take()
            try:
                result = run_in_time(session, batch.items)
            finally:
                places.give(core)
            return functools.partial(tell, loop, self.finished, result, batch.rows)

        return job

    def presses(self, rank: int) -> bool:
        """Whether more waits for the end of a run of its own, before what a class has in hand."""
        running = self.running - self._is_in_hand
        if not (running and self.backlog.items):
            return False
        if running >= self.instances:
            return self.rank <= rank
        # It could run beside its own, and does not for so few.
        return self.rank < rank and self.backlog.rows < self.worth_another

    @property
    def has_begun(self) -> bool:
        """Whether a thread has taken what was in hand."""
        return self._is_in_hand and self._ahead is not None and self._ahead.is_taken

    def begun(self) -> None:
        """What was in hand runs, and has its slot."""
        self._ahead, self._is_in_hand, self._is_in_line = None, False, False

    def recall(self) -> bool:
        """Take back what is ahead: somebody else goes first. False when a thread has begun it."""
        if self._ahead is None:
            return True
        if not self._ahead.take():
            return False
        batch, self._ahead = self._ahead.batch, None
        self._is_in_hand = False
        self.running -= 1
        self.running_rows -= batch.rows
        self.backlog.restore(batch.items)
        self.slots.settled(self)
        self._alarm.arm(self.backlog.deadline_ns)
        return True

    def granted(self) -> None:
        """A slot of the device is free for what waits."""
        raise NotImplementedError

    def finished(self, result: BatchResult, rows: int | None = None) -> None:
        """A run that was under way is over."""
        raise NotImplementedError
