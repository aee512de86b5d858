"""One release on this device: its state, its session and its queue.

Decides when to pump its queue; what runs together is ``scheduler.form_batch``'s decision, and how
it runs is ``executor.run_batch``'s. Everything here happens on the event loop except the run.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from typing import ClassVar

from edged.config.schema import ModelConfig
from edged.errors import (
    CancelledError,
    DeadlineExceededError,
    DrainingError,
    EdgedError,
    ModelNotReadyError,
    QueueFullError,
)
from edged.isolation import WorkerSession
from edged.loading import Costs
from edged.manifest import Manifest
from edged.messages import InferResponse
from edged.runtimes.base import Session
from edged.serving.alarm import Alarm
from edged.serving.counters import Counters
from edged.serving.executor import (
    BatchResult,
    InstanceThreads,
    RemoteBatch,
    log_answer,
    only,
    run_batch,
)
from edged.serving.inline import InlineRows
from edged.serving.lifecycle import Event, ReleaseKey, Snapshot, State, advance
from edged.serving.scheduler import (
    Batch,
    BatchLimits,
    Waiting,
    WaitUntil,
    deadlines_of,
    form_batch,
    parallel_runs,
    paying_rows,
)
from edged.serving.turn import Turn

log = logging.getLogger("edged.serving")

_BACK_NS = 1_000_000_000
"""A worker that died is started again; half a second is usual."""
_AHEAD_NS = 50_000_000
"""A batch that waits for a run of up to this length may already wait at its threads."""


class ServedRelease:
    """A release from NEW to UNLOADED.

    Args:
        key: what it is.
        manifest: of its bundle.
        config: the model's section of the configuration; may be replaced by ``configure``.
        inline_threshold_ns: faster models run on the event loop.
        turn: shared by all releases of a loop.
    """

    moves: ClassVar[int] = 0
    """How often any release changed its state: what was looked up before may be out of date."""

    def __init__(
        self,
        key: ReleaseKey,
        manifest: Manifest,
        config: ModelConfig,
        inline_threshold_ns: int,
        turn: Turn | None = None,
    ) -> None:
        self.key = key
        self.manifest = manifest
        self.number = manifest.release
        self.inputs = manifest.input_specs()
        self.outputs = manifest.output_specs()
        self.owner = f'model "{key.model}" release {self.number}'
        self.state = State.NEW
        self.reason = ""
        self.failures = 0
        self.retry_at_ns = 0
        self.session: Session | None = None
        self.remote: WorkerSession | None = None
        self.runtime = self.precision = self.choice = ""
        self.typical_run_ns = 0
        self.costs: Costs = ()
        self.batch_rows = self.instances = 1
        self.in_flight = self.running = 0
        self.counters = Counters()
        self.on_idle: Callable[[ServedRelease], None] | None = None
        self.on_death: Callable[[ServedRelease, str], None] | None = None
        self.deaths_ns: list[int] = []
        self.is_quarantined = False
        self.needs_layout = any(
            isinstance(axis, str) for spec in self.inputs for axis in spec.shape[1:]
        )
        self._inline_threshold_ns = inline_threshold_ns
        self._items: list[Waiting] = []
        self._rows = self._bytes = 0
        self.inline = InlineRows()
        self.turn = turn or Turn()
        self._is_pump_scheduled = False
        self._alarm = Alarm(self._on_timer)
        self._threads = InstanceThreads(f"edged-{key.model}-{self.number}")
        self._loop: asyncio.AbstractEventLoop | None = None
        self.configure(config)

    def configure(self, config: ModelConfig) -> None:
        """Take over queue and batch limits; requests already waiting are kept."""
        self.config = config
        rows = config.batching.max_batch if self.manifest.is_row_wise else 1
        self.batch_rows = paying_rows(self.costs, rows)
        self.instances = parallel_runs(
            config.batching.instances, self.costs, len(os.sched_getaffinity(0))
        )
        if self.remote is not None:
            self.instances = 1  # a worker has one run at a time
        self._worth_another = 1 if config.batching.instances else self.batch_rows
        self._limits = BatchLimits(self.batch_rows, int(config.batching.max_queue_delay))

    def move(self, event: Event, reason: str = "") -> None:
        """Change state by the table."""
        old, self.state = self.state, advance(self.state, event)
        ServedRelease.moves += 1
        self.reason = reason
        self.counters.moved(event)
        why = f" ({reason})" if reason else ""
        log.info("%s: %s -> %s%s", self.owner, old.value, self.state.value, why)

    def loaded(
        self, session: Session, runtime: str, typical_run_ns: int, costs: Costs = ()
    ) -> None:
        """Take the session that was loaded and measured."""
        self.costs = costs
        self.session = session
        self.runtime = runtime
        self.typical_run_ns = typical_run_ns
        self._loop = asyncio.get_running_loop()
        if isinstance(session, WorkerSession):
            self.remote = session
            session.attach(self._loop, self._worker_died)
        self.configure(self.config)

    @property
    def is_inline(self) -> bool:
        """Whether it is fast enough to run on the event loop."""
        return self.remote is None and self.typical_run_ns < self._inline_threshold_ns

    @property
    def is_free(self) -> bool:
        """Whether the loop may wait for its runs, and a request need wait for nothing."""
        is_quick = self.is_inline or self.remote is not None
        return is_quick and not (self._items or self.running or self._limits.max_delay_ns)

    @property
    def worker_pid(self) -> int:
        """The process that hosts it; 0 when this one does."""
        return self.remote.pid if self.remote is not None else 0

    @property
    def expected_ns(self) -> int:
        """How long the next run will hold up the loop, as far as the last one tells."""
        return self.inline.last_ns if self.is_inline else 0

    @property
    def queued(self) -> tuple[int, int]:
        """Rows and bytes that wait."""
        return self._rows, self._bytes

    def snapshot(self, is_desired: bool) -> Snapshot:
        """What deciding may know."""
        return Snapshot(
            self.key, self.number, self.state, is_desired, self.in_flight, self.retry_at_ns
        )

    def offer(self, item: Waiting) -> None:
        """Queue a request; holds a handle until it is answered.

        Raises:
            QueueFullError: rows or bytes over the queue's bounds; nothing was queued.
        """
        queue = self.config.queue
        rows, size = self._rows + item.rows, self._bytes + item.size_bytes
        if self._items and (rows > queue.max_rows or size > queue.max_size):
            raise QueueFullError(
                f"{self.owner}: its queue is full ({self._rows} rows, {self._bytes} bytes wait; "
                f"the limits are {queue.max_rows} rows and {queue.max_size} bytes)",
                retry_after_ns=self._drain_ns(),
            )
        self.in_flight += 1
        self._rows, self._bytes = rows, size
        self._items.append(item)
        if self._has_room:
            self._schedule()
        elif item.request.deadline_ns is not None:
            self._alarm.arm(item.request.deadline_ns)

    def withdraw(self, item: Waiting) -> bool:
        """Take out a request that still waits and answer it with CancelledError."""
        if item not in self._items:
            return False
        self._remove((item,))
        self._fail(item, CancelledError(f"{self.owner}: withdrawn before its turn"))
        return True

    def close(self) -> None:
        """Give back session and thread; what still waits is answered, what runs ends by itself."""
        self._alarm.cancel()
        waiting = tuple(self._items)
        self._remove(waiting)
        for item in waiting:
            self._fail(item, DrainingError(f"{self.owner}: the daemon stopped before its turn"))
        session, self.session = self.session, None
        if self.remote is not None:
            self.remote.close()
            session = None
        # The session's own last run is over, but freeing a large model takes time.
        self._threads.close(session.close if session is not None else None)

    def _worker_died(self, reason: str) -> None:
        """What ran has been answered; what waits is told to come back."""
        self.session = self.remote = None
        if self.on_death is not None:
            # First: who is told to come back may do so at once, and must not be queued here.
            self.on_death(self, reason)
        waiting = tuple(self._items)
        self._remove(waiting)
        for item in waiting:
            error = ModelNotReadyError(f"{self.owner}: {reason}", retry_after_ns=_BACK_NS)
            self._fail(item, error)

    def _drain_ns(self) -> int:
        per_run = max(self._limits.max_rows, 1)
        return (self._rows // per_run + 1) * max(self.typical_run_ns, 1_000_000)

    @property
    def _has_room(self) -> bool:
        """Whether one more run may begin, or wait at the threads so that none of them idles.

        What waits there cannot be withdrawn, so that runs must be short.
        """
        if self.running < self.instances:
            return not self.running or self._rows >= self._worth_another
        is_short = self.remote is None and not self.is_inline and self.typical_run_ns < _AHEAD_NS
        return is_short and self.running == self.instances and self._rows >= self.batch_rows

    def _schedule(self) -> None:
        # Not at once but at the end of this loop turn: what other connections sent meanwhile
        # joins the batch, at no cost in time.
        if not self._is_pump_scheduled and self._loop is not None:
            self._is_pump_scheduled = True
            self.turn.ask(self, self._loop)

    def pump(self) -> int:
        """Run or start what may run now; returns for how long that held up the loop."""
        self._is_pump_scheduled = False
        while self._items and self._has_room:
            now_ns = time.monotonic_ns()
            decision = form_batch(self._items, now_ns, self._limits)
            self._expire(decision.expired)
            if isinstance(decision, WaitUntil):
                self._alarm.arm(decision.at_ns)
                break
            is_ahead = self.running >= self.instances
            if not decision.items or (is_ahead and deadlines_of(decision.items)):
                break
            self._remove(decision.items)
            if self.is_inline and decision.rows <= self.inline.rows:
                return self._run_inline(decision)
            self._start(decision)
        if self._items and self.running:
            self._arm_deadlines()
        return 0

    def _run_inline(self, batch: Batch) -> int:
        assert self.session is not None
        self.counters.inline_batches += 1
        result = run_batch(self.session, batch.items)
        self.inline.learn(result.run_ns, result.rows)
        self._deliver(result)
        if self._items:
            self._schedule()
        return result.run_ns

    def _start(self, batch: Batch) -> None:
        """Run a batch on a thread of its own for as long as it takes."""
        session, loop = self.session, self._loop
        assert session is not None
        assert loop is not None
        self.running += 1
        if self.remote is not None:
            RemoteBatch(self.remote, batch.items, self.finished).begin()
            return

        def job() -> None:
            loop.call_soon_threadsafe(self.finished, run_batch(session, batch.items))

        self._threads.submit(job, min(self.running, self.instances))

    def finished(self, result: BatchResult) -> None:
        """A run that was under way is over."""
        self.running -= 1
        self.inline.learn(result.run_ns, result.rows)
        # The next batch starts before this one's answers are written.
        self._go_on()
        self._deliver(result)

    def _go_on(self) -> None:
        """Start what waits: at once when a thread does it, in its turn when the loop must."""
        if self.is_inline:
            self._schedule()
        else:
            self.pump()

    def _deliver(self, result: BatchResult) -> None:
        is_logged = log.isEnabledFor(logging.DEBUG)
        counters, now_ns = self.counters, time.monotonic_ns()
        counters.ran(result.run_ns, result.rows)
        model, number, run_ns, rows = self.key.model, self.number, result.run_ns, result.rows
        for item, outputs, error in result.outcomes:
            wanted = item.request.outputs
            if wanted and error is None:
                outputs, error = only(outputs or {}, wanted, self.owner)  # noqa: PLW2901
            waited_ns = result.started_ns - item.enqueued_ns
            duration_ns = now_ns - item.enqueued_ns
            if error is None:
                counters.served(item.request.origin, waited_ns, duration_ns)
            else:
                counters.waited(waited_ns)
                counters.answered(item.request.origin, error, duration_ns)
            response = InferResponse(
                model, number, item.generation, outputs or {}, error, waited_ns, run_ns, rows
            )
            self._hand_over(item, response, is_logged)

    def _expire(self, expired: tuple[Waiting, ...]) -> None:
        if not expired:
            return
        self._remove(expired)
        for item in expired:
            error = DeadlineExceededError(f"{self.owner}: the deadline passed while waiting")
            self._fail(item, error)

    def _fail(self, item: Waiting, error: EdgedError) -> None:
        duration_ns = time.monotonic_ns() - item.enqueued_ns
        self.counters.answered(item.request.origin, error, duration_ns)
        response = InferResponse(self.key.model, self.number, item.generation, error=error)
        self._hand_over(item, response, log.isEnabledFor(logging.DEBUG))

    def _hand_over(self, item: Waiting, response: InferResponse, is_logged: bool) -> None:
        self.in_flight -= 1
        if is_logged:
            log_answer(self.owner, item, response)
        try:
            item.on_response(response, True)
        except Exception:
            log.exception("a transport's callback raised for %s", item.request.origin)
        if self.in_flight == 0 and self.state is State.DRAINING and self.on_idle is not None:
            self.on_idle(self)

    def _remove(self, items: tuple[Waiting, ...]) -> None:
        if len(items) == len(self._items):
            self._items = []
            self._rows = self._bytes = 0
            return
        gone = set(map(id, items))
        self._items = [item for item in self._items if id(item) not in gone]
        for item in items:
            self._rows -= item.rows
            self._bytes -= item.size_bytes

    def _on_timer(self) -> None:
        if self._has_room:
            self._go_on()
            return
        now_ns = time.monotonic_ns()
        expired = [
            item
            for item in self._items
            if item.request.deadline_ns is not None and item.request.deadline_ns <= now_ns
        ]
        self._expire(tuple(expired))
        self._arm_deadlines()

    def _arm_deadlines(self) -> None:
        """While the instance is busy nobody else looks at the deadlines of those who wait."""
        if deadlines := deadlines_of(self._items):
            self._alarm.arm(min(deadlines))
