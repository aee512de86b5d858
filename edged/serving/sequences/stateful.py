"""A release whose model keeps state: requests of a sequence, each with what the last one left.

To whoever asks it is a release with a smaller signature. Here states join a request when its turn
has come (``open_sequences.py``); from there on it is a request like any other, in the one queue.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

from edged.config.schema import ModelConfig
from edged.costs import Costs
from edged.errors import (
    CancelledError,
    DrainingError,
    EdgedError,
    InvalidRequestError,
    ModelNotReadyError,
    QueueFullError,
)
from edged.manifest import Manifest
from edged.messages import InferRequest, InferResponse, SequencedRequest
from edged.runtimes.base import Session
from edged.serving.executor import RemoteBatch, RemoteSession
from edged.serving.lifecycle import BUSY, NEVER_NS, ReleaseKey, Snapshot, State
from edged.serving.parts import wholes
from edged.serving.release import ServedRelease
from edged.serving.scheduling.alarm import Alarm
from edged.serving.scheduling.scheduler import Batch, Waiting
from edged.serving.scheduling.slots import Devices
from edged.serving.scheduling.turn import Turn
from edged.serving.sequences.open_sequence import Step
from edged.serving.sequences.open_sequences import OpenSequences
from edged.serving.sequences.states import Axes, RowsFirst, axes_of, plan_states
from edged.serving.text_release import TextRelease
from edged.tensors import Array
from edged.workers.isolation import WorkerSession

log = logging.getLogger("edged.serving")


class StatefulRelease(ServedRelease):
    """See above.

    Args:
        key: what it is.
        manifest: of its bundle, states and all.
        config: as for ServedRelease, with ``sequence``.
        inline_threshold_ns: as for ServedRelease.
        turn: likewise.
        devices: likewise.
        sequences: shared by all releases of the model.

    Raises:
        FieldError: the bundle has no such states.
    """

    is_stateful = True

    def __init__(
        self,
        key: ReleaseKey,
        manifest: Manifest,
        config: ModelConfig,
        inline_threshold_ns: int,
        turn: Turn | None = None,
        *,
        devices: Devices | None = None,
        sequences: OpenSequences,
    ) -> None:
        assert config.sequence is not None
        self.sequence = config.sequence
        self.states = states = plan_states(manifest, config.sequence)
        self._axes = axes_of(states)
        super().__init__(key, states.whole, config, inline_threshold_ns, turn, devices=devices)
        self.manifest = states.seen
        self.inputs, self.outputs = states.seen.input_specs(), states.seen.output_specs()
        self.sequences = sequences
        sequences.releases.append(self)
        self._lined: dict[int, Step] = {}
        self._lined_rows = self._lined_bytes = 0
        self._is_closed = self._is_past = False
        self._patience = Alarm(self._waited_enough)

    def configure(self, config: ModelConfig) -> None:
        """Take over limits; which tensors are states is another release."""
        super().configure(config)
        assert config.sequence is not None
        self.sequence = config.sequence

    def loaded(
        self, session: Session, runtime: str, typical_run_ns: int, costs: Costs = ()
    ) -> None:
        """Take the session that was loaded and measured."""
        if self._axes.inputs and not isinstance(session, WorkerSession):
            session = RowsFirst(session, self._axes)
        super().loaded(session, runtime, typical_run_ns, costs)

    @property
    def goes_on(self) -> bool:
        """Whether it still answers those whose sequences it has."""
        return (self.answers or self.state is State.DRAINING) and not self._is_closed

    @property
    def is_coming_back(self) -> bool:
        """Whether it answers nobody just now: its worker died, or its load failed; not for good."""
        if self._is_closed or (self.state is State.FAILED and self.retry_at_ns == NEVER_NS):
            return False
        return self.state is State.FAILED or self.state in BUSY

    def can_follow(self, other: StatefulRelease) -> bool:
        """Whether it may go on with the states of another release."""
        keeps = self.sequence.on_swap == "keep"
        return keeps and self.states.signature == other.states.signature

    def offer(self, item: Waiting) -> Waiting:
        """Take a request of a sequence.

        Raises:
            InvalidRequestError: it is of none.
            SequenceNotFoundError: of one that is not open, and it does not begin it.
            QueueFullError: no room for it, or for one more sequence.
        """
        request = item.request
        if not isinstance(request, SequencedRequest):
            raise InvalidRequestError(
                f"{self.owner} keeps state: a request needs the id of its sequence, the first one "
                "with start"
            )
        self.sequences.take(self, item, request)
        return item

    def withdraw(self, item: Waiting) -> bool:
        """Take out a request that still waits and answer it with CancelledError."""
        step = self._lined.get(id(item))
        if step is None:
            return super().withdraw(item)
        words = f"{self.owner}: withdrawn before its turn"
        self.sequences.withdraw(step, CancelledError(words))
        return True

    def snapshot(self, is_desired: bool) -> Snapshot:
        """What deciding may know; an open sequence that only it can go on with holds it."""
        found = super().snapshot(is_desired)
        if self.state is not State.DRAINING or self._is_past or found.in_flight:
            return found
        return Snapshot(
            found.key, found.release, found.state, found.is_desired,
            self.sequences.bound_to(self), found.retry_at_ns, found.is_called,
        )  # fmt: skip

    def moved(self) -> int:
        """The state has changed; returns how loud that is to be said."""
        if self.state is State.DRAINING:
            self._patience.arm(time.monotonic_ns() + self.sequence.drain_timeout)
        return super().moved()

    def pass_on(self, other: ServedRelease) -> None:
        """Let the release that replaces this one answer what waits: each in its sequence's turn."""
        if other is self or not other.answers:
            return
        if (
            isinstance(other, StatefulRelease)
            and other.can_follow(self)
            and (other.inputs, other.outputs) == (self.inputs, self.outputs)
        ):
            self.sequences.pass_on(self, other)
            return
        words = f"was replaced by release {other.number}, which does not go on with its states"
        self.fail_waiting(ModelNotReadyError(f"{self.owner} {words}: ask again"))

    def take_back(self, step: Step) -> bool:
        """Take one whose turn had come out of the queue again, as it was before."""
        item = step.item
        waiting = [one for one in self.backlog.items if wholes((one,)) == [item]]
        if not waiting:
            return False
        self.backlog.remove(waiting)
        self.in_flight -= 1
        item.request, item.on_response = step.request, step.on_response
        return True

    def close(self) -> None:
        """Give back session and thread; what waits is answered, states stay for who follows."""
        self._is_closed = True
        self._patience.cancel()
        super().close()
        if self in self.sequences.releases:
            self.sequences.releases.remove(self)
        if not self.sequences.releases:
            self.sequences.abandon()

    def check_line(self, item: Waiting) -> None:
        """Refuse one when too much waits behind others of its sequence.

        Raises:
            QueueFullError: with the limits.
        """
        queue = self.config.queue
        rows = self.backlog.rows + self._lined_rows + item.rows
        size = self.backlog.size_bytes + self._lined_bytes + item.size_bytes
        if self._lined and (rows > queue.max_rows or size > queue.max_size):
            raise QueueFullError(
                f"{self.owner}: {self._lined_rows} rows wait behind others of their sequences; the "
                f"limits are {queue.max_rows} rows and {queue.max_size} bytes"
            )

    def stand_in_line(self, step: Step) -> None:
        """Count one that waits for its turn."""
        item = step.item
        self._lined[id(item)] = step
        self._lined_rows += item.rows
        self._lined_bytes += item.size_bytes
        self.in_flight += 1

    def leave_line(self, step: Step) -> None:
        """The opposite."""
        item = step.item
        del self._lined[id(item)]
        self._lined_rows -= item.rows
        self._lined_bytes -= item.size_bytes
        self.in_flight -= 1

    def join(self, step: Step, states: Mapping[str, Array]) -> None:
        """Queue a request whose turn has come, with its states.

        Raises:
            EdgedError: there is no room, or nobody to run it; it is as it was.
        """
        if self._is_closed:
            raise DrainingError(f"{self.owner}: the daemon stopped before its turn")
        if not self.goes_on:
            why = f": {self.reason}" if self.reason else ""
            raise ModelNotReadyError(f"{self.owner} is {self.told_state}{why}")
        item, asked = step.item, step.request
        outputs = asked.outputs
        if outputs:
            outputs = (*outputs, *(one.output for one in self.states.tensors))
        item.request = InferRequest(
            asked.model, {**asked.inputs, **states}, asked.release, outputs,
            asked.deadline_ns, asked.origin,
        )  # fmt: skip
        item.on_response = step.answered
        try:
            super().offer(item)
        except BaseException:
            item.request, item.on_response = asked, step.on_response
            raise

    def refuse(self, step: Step, error: EdgedError) -> None:
        """Answer one that had waited for its turn in vain."""
        self.in_flight += 1
        self.fail(step.item, error)

    def end(self, step: Step) -> None:
        """Answer one that only ended its sequence."""
        item = step.item
        self.in_flight += 1
        self.counters.answered(item.request.origin, None, time.monotonic_ns() - item.enqueued_ns)
        response = InferResponse(self.key.model, self.number, item.generation)
        self._hand_over(item, response, log.isEnabledFor(logging.DEBUG))

    def unbound(self) -> None:
        """A sequence of ours is closed, or goes on elsewhere: the last one lets us go."""
        if self.state is State.DRAINING and not self._is_closed and self._loop is not None:
            # Soon: whoever closed it is in the middle of something.
            self._loop.call_soon(self._may_go)

    def _may_go(self) -> None:
        if self.in_flight == 0 and self.state is State.DRAINING and self.on_idle is not None:
            self.on_idle(self)

    def _start(self, batch: Batch) -> None:
        if self.remote is None or not self._axes.inputs:
            super()._start(batch)
            return
        self.running += 1
        self.running_rows += batch.rows
        apart = _Apart(self.remote, self._axes)
        RemoteBatch(apart, batch.items, self.finished).begin()

    def _waited_enough(self) -> None:
        self._is_past = True
        if self.state is State.DRAINING:
            self.sequences.give_up(self)
            self.unbound()


class _Apart:
    """A worker whose states have their rows first."""

    def __init__(self, remote: RemoteSession, axes: Axes) -> None:
        self._remote, self._axes = remote, axes

    def begin(
        self,
        inputs: Mapping[str, Array],
        on_done: Callable[[Mapping[str, Array], EdgedError | None], None],
    ) -> None:
        def ran(outputs: Mapping[str, Array], error: EdgedError | None) -> None:
            on_done(self._axes.from_model(outputs), error)

        self._remote.begin(self._axes.to_model(inputs), ran)

    def await_run(self, on_done: Callable[[Mapping[str, Array], EdgedError | None], None]) -> None:
        raise NotImplementedError


class Shelves:
    """The open sequences of every model; a release is made with those of its model."""

    def __init__(self) -> None:
        self._models: dict[str, OpenSequences] = {}

    def items(self) -> list[tuple[str, OpenSequences]]:
        """By model."""
        return list(self._models.items())

    def make(
        self,
        key: ReleaseKey,
        manifest: Manifest,
        config: ModelConfig,
        inline_threshold_ns: int,
        turn: Turn,
        *,
        devices: Devices,
    ) -> ServedRelease:
        """A release, of the kind that its model's section asks for; see ServedRelease."""
        if manifest.makes_texts:
            return TextRelease(key, manifest, config, inline_threshold_ns, turn, devices=devices)
        if config.sequence is None:
            return ServedRelease(key, manifest, config, inline_threshold_ns, turn, devices=devices)
        sequences = self._models.setdefault(key.model, OpenSequences())
        return StatefulRelease(
            key, manifest, config, inline_threshold_ns, turn, devices=devices, sequences=sequences
        )
