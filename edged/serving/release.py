"""One release on this device: its state, its session and its queue.

Decides when to pump its queue; what runs together is ``scheduler.form_batch``'s decision, and how
it runs is ``executor.run_batch``'s. Everything here happens on the event loop except the run.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable

from edged.config.schema import ModelConfig
from edged.costs import Costs
from edged.errors import CancelledError, DrainingError, ModelNotReadyError
from edged.manifest import Manifest
from edged.resident import place_of
from edged.runtimes.base import Session
from edged.runtimes.registry import APART
from edged.serving.ahead import Ahead
from edged.serving.answering import BACK_NS
from edged.serving.choosing.preference import StandIn
from edged.serving.executor import (
    BatchResult,
    Claim,
    RemoteBatch,
    run_batch,
)
from edged.serving.instance_threads import InstanceThreads
from edged.serving.lifecycle import ReleaseKey
from edged.serving.parts import Whole, can_cut, check_parts, part_rows
from edged.serving.scheduling.alarm import Alarm
from edged.serving.scheduling.forecast import Forecast
from edged.serving.scheduling.inline import InlineRows
from edged.serving.scheduling.precedence import NORMAL, RANKS
from edged.serving.scheduling.scheduler import (
    Batch,
    BatchLimits,
    Waiting,
    WaitUntil,
    form_batch,
    parallel_runs,
    paying_rows,
)
from edged.serving.scheduling.slots import Devices
from edged.serving.scheduling.turn import Turn
from edged.system.cores import usable
from edged.workers.isolation import WorkerSession

_ALONE = 2
"""So many times ``limits.inline_threshold`` may take what runs on the loop for one who is alone: a
thread's 40 us and what a core has to fetch from another's caches are spared, nobody is delayed."""
_SHORT_NS = 50_000_000
"""A batch that waits for a run of up to this length may already wait at its threads, and one that
takes up to this long does not wait for longer ones where it need not."""


class ServedRelease(Ahead):
    """A release from NEW to UNLOADED.

    Args:
        key: what it is.
        manifest: of its bundle.
        config: the model's section of the configuration; may be replaced by ``configure``.
        inline_threshold_ns: faster models run on the event loop.
        turn: shared by all releases of a loop.
        devices: shared by all releases of the process.
    """

    def __init__(
        self,
        key: ReleaseKey,
        manifest: Manifest,
        config: ModelConfig,
        inline_threshold_ns: int,
        turn: Turn | None = None,
        *,
        devices: Devices | None = None,
    ) -> None:
        super().__init__(key, manifest.release)
        self.manifest = self.whole = manifest
        self.inputs = manifest.input_specs()
        self.outputs = manifest.output_specs()
        self.session: Session | None = None
        self.remote: WorkerSession | None = None
        self.runtime = self.precision = self.choice = ""
        self.stand_in: StandIn | None = None
        self.typical_run_ns = 0
        self.costs: Costs = ()
        self.batch_rows = self.instances = 1
        self.on_death: Callable[[ServedRelease, str], None] | None = None
        free = [axis for spec in self.inputs for axis in spec.shape[1:] if isinstance(axis, str)]
        self.needs_layout = bool(free)
        self._inline_threshold_ns = inline_threshold_ns
        self.inline = InlineRows()
        self.turn = turn or Turn()
        self._devices = devices or Devices()
        self.slots = self._devices.of("")
        self._is_pump_scheduled = False
        self._alarm = Alarm(self._on_timer)
        self._threads = InstanceThreads(f"edged-{key.model}-{self.number}")
        self._loop: asyncio.AbstractEventLoop | None = None
        self.configure(config)

    def configure(self, config: ModelConfig) -> None:
        """Take over class, queue and batch limits; requests already waiting are kept."""
        self.config = config
        self.rank = RANKS[config.priority]
        self.turn.is_ranked |= self.rank != NORMAL
        self._threads.favour(is_urgent=self.rank < NORMAL)
        rows = config.batching.max_batch if self.whole.is_row_wise else 1
        self.batch_rows = paying_rows(self.costs, rows)
        batching = config.batching
        wanted = parallel_runs(batching.instances, self.costs, len(usable()))
        allowed = self.slots.rules.usable(self.rank)
        most = allowed if self.remote is None else self.remote.ways
        self.instances = min(wanted, allowed, most)
        self.worth_another = 1 if config.batching.instances else self.batch_rows
        self._part_rows = part_rows(self.batch_rows, rows, self.forecast)
        self.most_rows = rows if can_cut(self.whole) else sys.maxsize
        self._limits = BatchLimits(self.batch_rows, int(batching.max_queue_delay), self.forecast)
        self.is_patient = batching.max_queue_delay > 0 or self.cache is not None
        self.forecast.follow(self.batch_rows, self.instances)
        if self._is_in_line:
            self.slots.serve()  # its new class may have a slot that the old one could not

    def loaded(
        self, session: Session, runtime: str, typical_run_ns: int, costs: Costs = ()
    ) -> None:
        """Take the session that was loaded and measured."""
        self.costs = costs
        self.forecast = Forecast(costs, is_row_wise=self.whole.is_row_wise)
        self.session = session
        self.runtime = runtime
        self.slots = self._devices.of(runtime)
        self._threads.hand = self.slots.hand
        self.typical_run_ns = typical_run_ns
        self._loop = asyncio.get_running_loop()
        if isinstance(session, WorkerSession):
            self.remote = session
            session.attach(self._loop, self._worker_died)
        # What a model left on a device that this one does not know, and what was lost there.
        lost = () if place_of(session) else self.backlog.fetch()
        self.configure(self.config)
        for item in lost:
            words = f"{self.owner}: its inputs were lost with a device, ask again"
            self.fail(item, ModelNotReadyError(words, retry_after_ns=BACK_NS))
        self.go_on()

    @property
    def is_inline(self) -> bool:
        """Whether it is fast enough to run on the event loop."""
        return self.remote is None and self.typical_run_ns < self._inline_threshold_ns

    @property
    def is_free(self) -> bool:
        """Whether the loop may wait for its runs, and a request need wait for nothing."""
        return self._is_idle and (self.is_inline or self._has_a_worker_free)

    @property
    def is_quick(self) -> bool:
        """Whether the loop may run it for one who is alone: nobody else waits meanwhile."""
        return self.remote is None and self.typical_run_ns < _ALONE * self._inline_threshold_ns

    @property
    def is_free_for_one(self) -> bool:
        """As ``is_free``, for one who is alone."""
        return self._is_idle and (self.is_quick or self._has_a_worker_free)

    @property
    def _is_idle(self) -> bool:
        return not (self.backlog.items or self.running or self.is_patient)

    @property
    def _has_a_worker_free(self) -> bool:
        return self.remote is not None and self.slots.has_room(self)

    @property
    def is_short(self) -> bool:
        """Whether its runs are short; see ``precedence.Want``."""
        return self.typical_run_ns < _SHORT_NS

    @property
    def worker_pid(self) -> int:
        """The process that hosts it; 0 when this one does."""
        return self.remote.pid if self.remote is not None else 0

    @property
    def is_apart(self) -> bool:
        """Whether it runs in a worker process, also while it sleeps."""
        return self.config.isolation != "none" or self.runtime in APART

    @property
    def expected_ns(self) -> int:
        """How long the next run will hold up the loop, as far as the last one tells."""
        return self.inline.last_ns if self.is_inline else 0

    def offer(self, item: Waiting) -> Waiting:
        """Queue a request; holds a handle until it is answered.

        Raises:
            QueueFullError: rows or bytes over the queue's bounds, or so many before it that it
                would be late; nothing was queued.
            TooLargeError: more rows than can be cut into parts.
        """
        if item.rows > self.most_rows:
            check_parts(self.owner, item.rows, self._part_rows)
        queue, backlog = self.config.queue, self.backlog
        rows, size = backlog.rows + item.rows, backlog.size_bytes + item.size_bytes
        if backlog.items and (rows > queue.max_rows or size > queue.max_size):
            raise self.refuse_full(item, queue)
        deadline_ns = item.request.deadline_ns
        if deadline_ns is not None and (backlog.items or self.running or not self.slots.has_plenty):
            self.refuse_late(item, rows)
        self.in_flight += 1
        backlog.rows, backlog.size_bytes = rows, size
        if item.rows > self.most_rows:
            for part in Whole(item, self).cut(self._part_rows):
                backlog.place(part)
        elif deadline_ns is None and not backlog.timed:
            backlog.items.append(item)
        else:
            backlog.place(item)
        if self._has_room:
            if self.slots.has_plenty or not self._must_line_up:
                self._schedule()
            else:
                self._is_in_line = True
                self.slots.line_up(self)
                self._alarm.arm(deadline_ns)
        else:
            self._alarm.arm(deadline_ns)
            if self.session is None:
                self.call()
            elif self._may_join:
                self.slots.renew(self)
            elif self.running:
                self.slots.press(self)
        return item

    def withdraw(self, item: Waiting) -> bool:
        """Take out a request that still waits and answer it with CancelledError."""
        if item not in self.backlog.items:
            return False
        self.backlog.remove((item,))
        self.fail(item, CancelledError(f"{self.owner}: withdrawn before its turn"))
        return True

    def close(self) -> None:
        """Give back session and thread; what still waits is answered, what runs ends by itself."""
        self._alarm.cancel()
        self._stop_waiting()
        self.fail_waiting(DrainingError(f"{self.owner}: the daemon stopped before its turn"))
        session, self.session = self.session, None
        if self.remote is not None:
            self.remote.close()
            session = None
        # Behind the last run, on its thread: freeing a large model takes time.
        self._threads.close(session.close if session is not None else None)

    def _stop_waiting(self) -> None:
        self._is_in_line = False
        self.slots.leave(self)

    def _worker_died(self, reason: str) -> None:
        """What ran has been answered; what waits is told to come back."""
        self.bereave()
        self._stop_waiting()
        if self.on_death is not None:
            # First: who is told to come back may do so at once, and must not be queued here.
            self.on_death(self, reason)
        self.fail_waiting(ModelNotReadyError(f"{self.owner}: {reason}", retry_after_ns=BACK_NS))

    def _schedule(self) -> None:
        # At the end of this loop turn: what others sent meanwhile joins the batch at no cost.
        if not self._is_pump_scheduled and self._loop is not None:
            self._is_pump_scheduled = True
            self.turn.ask(self, self._loop)

    def pump(self) -> int:
        """Run or start what may run now; returns for how long that held up the loop."""
        self._is_pump_scheduled = False
        held_ns: int | None = None
        while held_ns is None and self.backlog.items and self._has_room:
            now_ns = time.monotonic_ns()
            decision = form_batch(self.backlog.items, now_ns, self._limits)
            if decision.expired:
                self.backlog.remove(decision.expired)
            held_ns = self._follow(decision, now_ns)
            if decision.expired:
                # Last: who is told may withdraw others, and those that run are out of reach by now.
                self.expire(decision.expired, now_ns)
        if self.backlog.items and (self.running or self._is_in_line):
            # While it is busy nobody else looks at the deadlines of those who wait.
            self._alarm.arm(self.backlog.deadline_ns)
        return held_ns or 0

    def _follow(self, decision: Batch | WaitUntil, now_ns: int) -> int | None:
        """Do as decided; returns for how long that held up the loop, None when more may start."""
        if isinstance(decision, WaitUntil):
            self._alarm.arm(decision.at_ns)
            return 0
        if not decision.items:
            return 0
        if self.is_inline and decision.rows <= self.inline.rows:
            self.backlog.remove(decision.items)
            return self._run_inline(decision)
        if not self._may_start(decision, now_ns):
            return 0
        self.backlog.remove(decision.items)
        self._start(decision)
        return None

    def _may_start(self, batch: Batch, now_ns: int) -> bool:
        """Whether a batch may go to the threads now; else it waits in the queue."""
        if self.running < self.instances:
            self._is_in_line = not self.slots.take(self)
            return not self._is_in_line
        if not self.has_time(batch, now_ns):
            self.slots.press(self)
            return False
        if not self.slots.ahead(self):
            return False
        self._ahead = Claim(batch)
        return True

    def _run_inline(self, batch: Batch) -> int:
        assert self.session is not None
        self.counters.inline_batches += 1
        result = run_batch(self.session, batch.items)
        self.inline.learn(result.run_ns, result.rows)
        self.deliver(result)
        if self.backlog.items:
            self._schedule()
        return result.run_ns

    def take_over(self, item: Waiting) -> None:
        """Count a request whose run has begun without us."""
        self.in_flight += 1
        self.running += 1
        self.running_rows += item.rows
        self.slots.hold(self)

    def _start(self, batch: Batch) -> None:
        """Run a batch on a thread of its own for as long as it takes."""
        if self.remote is not None:
            self.running += 1
            self.running_rows += batch.rows
            RemoteBatch(self.remote, batch.items, self.finished).begin()
            return
        ahead = self._ahead
        job = self.job_of(batch, ahead if ahead is not None and ahead.batch is batch else None)
        self._threads.submit(job, min(self.running, self.instances))

    def granted(self) -> None:
        """A slot of the device is free for what waits."""
        self._is_in_line = False
        self.pump()

    def finished(self, result: BatchResult, rows: int | None = None) -> None:
        """A run that was under way is over; ``rows`` as it began, when some had not to run."""
        self.running -= 1
        self.running_rows -= result.rows if rows is None else rows
        if result.rows:
            now_ns = time.monotonic_ns()
            self.inline.learn(result.run_ns, result.rows)
            self.learn(result, now_ns, is_queued=self._ahead is not None)
        if self._ahead is not None and not self._is_in_hand:
            # It began on the thread that is free now, and has the slot from here on.
            self._ahead = None
            self.slots.hand_on(self, result.run_ns)
        else:
            self.slots.give(self, result.run_ns)
        # The next batch starts before this one's answers are written.
        self._go_on()
        self.slots.serve()
        self.deliver(result)

    def _go_on(self) -> None:
        """Start what waits: at once when a thread does it, in its turn when the loop must."""
        if self.is_inline:
            self._schedule()
        else:
            self.pump()

    def _on_timer(self) -> None:
        if self._has_room:
            self._go_on()
            return
        now_ns = time.monotonic_ns()
        if overdue := self.backlog.overdue(now_ns):
            self.backlog.remove(overdue)
            self.expire(overdue, now_ns)
        self._alarm.arm(self.backlog.deadline_ns)
