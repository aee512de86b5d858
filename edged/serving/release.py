"""One release on this device: its state, its session and its queue.

Decides when to pump its queue; what runs together is ``scheduler.form_batch``'s decision, and how
it runs is ``executor.run_batch``'s. Everything here happens on the event loop except the run.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Mapping
from typing import ClassVar

from edged.config.schema import ModelConfig
from edged.errors import (
    CancelledError,
    DeadlineExceededError,
    DrainingError,
    EdgedError,
    ModelNotReadyError,
    QueueFullError,
    RunError,
)
from edged.isolation import WorkerSession
from edged.manifest import Manifest
from edged.messages import InferResponse
from edged.runtimes.base import Session
from edged.serving.counters import Counters
from edged.serving.executor import BatchResult, InstanceThread, RemoteBatch, run_batch
from edged.serving.lifecycle import Event, ReleaseKey, Snapshot, State, advance
from edged.serving.scheduler import BatchLimits, Waiting, WaitUntil, form_batch
from edged.tensors import Array

log = logging.getLogger("edged.serving")

_INLINE_ROWS = 64
"""The measured time is that of one row; a request of very many rows would hold up the loop."""
_INLINE_BUDGET_NS = 500_000
"""The longest that a run should hold up the loop."""
_SLOW_RUNS = 4
"""So many runs over the budget in a row halve what runs on the loop. One alone says little: a run
that lost the interpreter lock to another thread gets it back after up to 5 ms."""

_BACK_NS = 1_000_000_000
"""A worker that died is started again; half a second is usual."""


class ServedRelease:
    """A release from NEW to UNLOADED.

    Args:
        key: what it is.
        manifest: of its bundle.
        config: the model's section of the configuration; may be replaced by ``configure``.
        inline_threshold_ns: faster models run on the event loop.
    """

    moves: ClassVar[int] = 0
    """How often any release changed its state: what was looked up before may be out of date."""

    def __init__(
        self, key: ReleaseKey, manifest: Manifest, config: ModelConfig, inline_threshold_ns: int
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
        self._remote: WorkerSession | None = None
        self.runtime = ""
        self.typical_run_ns = 0
        self.in_flight = 0
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
        self._rows = 0
        self._bytes = 0
        self._inline_rows = _INLINE_ROWS
        self._slow_runs = 0
        self._is_busy = False
        self._is_pump_scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns = 0
        self._thread = InstanceThread(f"edged-{key.model}-{self.number}")
        self._loop: asyncio.AbstractEventLoop | None = None
        self.configure(config)

    def configure(self, config: ModelConfig) -> None:
        """Take over queue and batch limits; requests already waiting are kept."""
        self.config = config
        rows = config.batching.max_batch if self.manifest.is_row_wise else 1
        self._limits = BatchLimits(rows, int(config.batching.max_queue_delay))

    def move(self, event: Event, reason: str = "") -> None:
        """Change state by the table."""
        old, self.state = self.state, advance(self.state, event)
        ServedRelease.moves += 1
        self.reason = reason
        self.counters.moved(event)
        log.info(
            "%s: %s -> %s%s",
            self.owner,
            old.value,
            self.state.value,
            f" ({reason})" if reason else "",
        )

    def loaded(self, session: Session, runtime: str, typical_run_ns: int) -> None:
        """Take the session that was loaded and measured."""
        self.session = session
        self.runtime = runtime
        self.typical_run_ns = typical_run_ns
        self._loop = asyncio.get_running_loop()
        if isinstance(session, WorkerSession):
            self._remote = session
            session.attach(self._loop, self._worker_died)

    @property
    def is_inline(self) -> bool:
        """Whether it is fast enough to run on the event loop."""
        return self._remote is None and self.typical_run_ns < self._inline_threshold_ns

    @property
    def worker_pid(self) -> int:
        """The process that hosts it; 0 when this one does."""
        return self._remote.pid if self._remote is not None else 0

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
        if not self._is_busy:
            self._schedule()
        elif item.request.deadline_ns is not None:
            self._arm(item.request.deadline_ns)

    def withdraw(self, item: Waiting) -> bool:
        """Take out a request that still waits and answer it with CancelledError."""
        if item not in self._items:
            return False
        self._remove((item,))
        self._fail(item, CancelledError(f"{self.owner}: withdrawn before its turn"))
        return True

    def close(self) -> None:
        """Give back session and thread; what still waits is answered, what runs ends by itself."""
        if self._timer is not None:
            self._timer.cancel()
        waiting = tuple(self._items)
        self._remove(waiting)
        for item in waiting:
            self._fail(item, DrainingError(f"{self.owner}: the daemon stopped before its turn"))
        session, self.session = self.session, None
        if self._remote is not None:
            self._remote.close()
        elif session is not None:
            # The session's own last run is over, but freeing a large model takes time.
            self._thread.submit(session.close)
        self._thread.close()

    def _worker_died(self, reason: str) -> None:
        """What ran has been answered; what waits is told to come back."""
        self.session = self._remote = None
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

    def _schedule(self) -> None:
        # Not at once but at the end of this loop turn: what other connections sent meanwhile
        # joins the batch, at no cost in time.
        if not self._is_pump_scheduled and self._loop is not None:
            self._is_pump_scheduled = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._is_pump_scheduled = False
        if self._is_busy or not self._items:
            return
        now_ns = time.monotonic_ns()
        decision = form_batch(self._items, now_ns, self._limits)
        self._expire(decision.expired)
        if isinstance(decision, WaitUntil):
            self._arm(decision.at_ns)
            return
        if not decision.items:
            return
        self._remove(decision.items)
        session = self.session
        assert session is not None
        if self.is_inline and decision.rows <= self._inline_rows:
            self.counters.inline_batches += 1
            result = run_batch(session, decision.items)
            self._learn(result)
            self._deliver(result, now_ns)
            if self._items:
                self._schedule()
            return
        self._is_busy = True
        self._arm_deadlines()
        if self._remote is not None:
            finished = functools.partial(self._finished, started_ns=now_ns)
            RemoteBatch(self._remote, decision.items, finished).begin()
            return
        loop = self._loop
        assert loop is not None

        def job() -> None:
            result = run_batch(session, decision.items)
            loop.call_soon_threadsafe(self._finished, result, now_ns)

        self._thread.submit(job)

    def _learn(self, result: BatchResult) -> None:
        """Fit the rows that run on the loop to what they really take."""
        if result.run_ns > _INLINE_BUDGET_NS:
            self._slow_runs += 1
            if self._slow_runs >= _SLOW_RUNS:
                self._slow_runs = 0
                self._inline_rows = max(1, min(self._inline_rows, result.rows // 2))
            return
        self._slow_runs = 0
        if result.run_ns < _INLINE_BUDGET_NS // 2:
            # Also learnt from a run on the thread: so what was only a busy moment comes back.
            self._inline_rows = max(self._inline_rows, min(_INLINE_ROWS, result.rows))

    def _finished(self, result: BatchResult, started_ns: int) -> None:
        self._is_busy = False
        self._learn(result)
        # The next batch starts before this one's answers are written.
        self._pump()
        self._deliver(result, started_ns)

    def _deliver(self, result: BatchResult, started_ns: int) -> None:
        counters, now_ns = self.counters, time.monotonic_ns()
        counters.ran(result.run_ns, result.rows)
        model, number, run_ns, rows = self.key.model, self.number, result.run_ns, result.rows
        for item, outputs, error in result.outcomes:
            wanted = item.request.outputs
            if wanted and error is None:
                outputs, error = self._only(outputs or {}, wanted)  # noqa: PLW2901
            waited_ns = started_ns - item.enqueued_ns
            duration_ns = now_ns - item.enqueued_ns
            if error is None:
                counters.served(item.request.origin, waited_ns, duration_ns)
            else:
                counters.waited(waited_ns)
                counters.answered(item.request.origin, error, duration_ns)
            response = InferResponse(
                model, number, item.generation, outputs or {}, error, waited_ns, run_ns, rows
            )
            self._hand_over(item, response)

    def _only(
        self, outputs: Mapping[str, Array], wanted: tuple[str, ...]
    ) -> tuple[Mapping[str, Array], EdgedError | None]:
        """The outputs that a request asked for."""
        if missing := [name for name in wanted if name not in outputs]:
            return {}, RunError(f'{self.owner} gave no output "{missing[0]}"')
        return {name: outputs[name] for name in wanted}, None

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
        self._hand_over(item, response)

    def _hand_over(self, item: Waiting, response: InferResponse) -> None:
        self.in_flight -= 1
        if log.isEnabledFor(logging.DEBUG):
            _log_answer(self.owner, item, response)
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

    def _arm(self, at_ns: int) -> None:
        """Wake up at ``at_ns`` to look at deadlines and delays."""
        assert self._loop is not None
        if self._timer is not None:
            if self._timer_ns <= at_ns:
                return
            self._timer.cancel()
        self._timer_ns = at_ns
        delay = max(0, at_ns - time.monotonic_ns()) / 1e9
        self._timer = self._loop.call_later(delay, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if not self._is_busy:
            self._pump()
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
        deadlines = [
            i.request.deadline_ns for i in self._items if i.request.deadline_ns is not None
        ]
        if deadlines:
            self._arm(min(deadlines))


def _log_answer(owner: str, item: Waiting, response: InferResponse) -> None:
    log.debug(
        "%s answers %s: %s; waited %d us, ran %d us in a batch of %d",
        owner,
        item.request.origin,
        response.error.message if response.error is not None else "ok",
        response.queue_ns // 1000,
        response.run_ns // 1000,
        response.batch_rows,
    )
