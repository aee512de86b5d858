"""A pipeline as what a route points at: it takes requests, and is ready when its models are.

Its requests hold every model from the first step to the last, so that a change of the configuration
swaps a pipeline as a whole: what was begun with the old models ends with them.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from edged.errors import (
    CancelledError,
    EdgedError,
    ModelNotReadyError,
    QueueFullError,
)
from edged.messages import InferRequest, InferResponse, OnResponse, StreamRequest, Ticket
from edged.pipelines.describe import definition_of, describe
from edged.pipelines.graph import Member, Plan, Streamed
from edged.pipelines.run import PipelineRun
from edged.pipelines.staying import Staying, staying
from edged.pipelines.stream_run import StreamRun
from edged.pipelines.tally import StepTally, Tally
from edged.resident import place_of
from edged.runtimes.base import BoundRun
from edged.serving.counters import Counters
from edged.serving.dataplane import offer
from edged.serving.lifecycle import ReleaseKey, State
from edged.serving.release import ServedRelease
from edged.serving.router import Route, choose_release
from edged.serving.scheduling.backlog import Backlog
from edged.serving.scheduling.inline import InlineRows
from edged.serving.scheduling.precedence import NEVER_NS, NORMAL
from edged.serving.scheduling.scheduler import Waiting
from edged.serving.served import Served
from edged.serving.workshop import Workshop
from edged.tensors import Array, TensorSpec

log = logging.getLogger("edged.pipelines")

_LOADING = frozenset({State.NEW, State.LOADING, State.WARMING})
_AGAIN_NS = 100_000_000
"""A pipeline that is full is told to come back; runs take milliseconds."""

Replan = Callable[[Mapping[Member, Served]], "Plan | str"]
"""Plans anew for other releases of the models; or says why that cannot be."""


class PipelineRelease:
    """Serves one pipeline under one generation of the configuration.

    Args:
        plan: for the releases that the configuration names.
        routes: of the models, of the same generation.
        workshop: what all pipelines share.
        replan: for when other releases answer than those that were planned with.
    """

    is_quarantined = is_stateful = False
    remote = None
    worker_pid = 0
    runtime = "pipeline"
    precision = choice = ""
    costs = ()
    batch_rows = instances = 1
    most_rows = sys.maxsize
    is_inline = False
    is_free = is_quick = is_free_for_one = False

    def __init__(
        self, plan: Plan, routes: Mapping[str, Route], workshop: Workshop, replan: Replan
    ) -> None:
        self.plan = plan
        self.workshop = workshop
        self.turn = workshop.turn
        self.manifest = describe(plan)
        self.number = plan.config.release
        self.owner = f'pipeline "{plan.name}" release {self.number}'
        self.key = ReleaseKey(plan.name, hashlib.sha256(definition_of(plan)).hexdigest(), "")
        self.session = _NoSession(plan)
        self.inline = InlineRows()
        self.in_flight = self.running = 0
        self.needs_layout = False
        self.expected_ns = 0
        self._routes, self._replan = routes, replan
        self._members: Mapping[Member, Served] = {}
        self.staying: Staying = {}
        self._reason, self._state, self._moves = "", State.NEW, -1
        self.backlog = Backlog()
        self.rank = NORMAL
        self._runs: dict[int, PipelineRun] = {}
        self._rows = self._bytes = 0
        self._is_scheduled = False
        fresh = Tally(step.name for step in plan.config.steps)
        self.tally: Tally = workshop.tallies.setdefault((plan.name, self.key.digest), fresh)
        self.counters: Counters = self.tally.counters
        self.cache = workshop.caches.before(plan.name, self, plan.config.cache, is_sole=True)
        self.ask: Callable[[Waiting], Ticket | None] = self.offer
        if self.cache is not None:
            self.ask = self.cache.ask

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The input signature."""
        return self.plan.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The output signature."""
        return self.plan.outputs

    @property
    def state(self) -> State:
        """Ready when all its models are; never changes by itself."""
        self._look()
        return self._state

    @property
    def typical_run_ns(self) -> int:
        """From the first step to the last, as it was on average."""
        return self.counters.run_ns // max(self.counters.batches, 1)

    @property
    def places(self) -> int:
        """As many as its slowest model's, and beside them two batches of each for the way."""
        self._look()
        members = tuple(self._members.values())
        most = min((one.places for one in members), default=0)
        return most and most + sum(2 * one.batch_rows * one.instances for one in members)

    @property
    def answers(self) -> bool:
        """Whether requests are taken."""
        return self.state is State.READY

    @property
    def told_state(self) -> str:
        """Where it is, in the words of people."""
        return self.state.value

    @property
    def is_dismissed(self) -> bool:
        """Its models are unloaded, not it."""
        return False

    @property
    def reason(self) -> str:
        """Why it is not ready."""
        self._look()
        return self._reason

    @property
    def due_ns(self) -> int:
        """The first deadline of what waits for the loop's turn."""
        deadline_ns = self.backlog.deadline_ns
        return NEVER_NS if deadline_ns is None else deadline_ns

    def tally_of(self, step: str) -> StepTally:
        """What a step has done."""
        return self.tally.steps[step]

    def _look(self) -> None:
        """Find out who answers for each model, again when any release has moved."""
        if self._moves == ServedRelease.moves:
            return
        self._moves = ServedRelease.moves
        found: dict[Member, Served] = {}
        for member in self.plan.members:
            try:
                found[member] = choose_release(self._routes[member.model], member.selector)
            except EdgedError as exc:
                states = {one.state for one in self._routes[member.model].releases.values()}
                self._state = State.LOADING if states & _LOADING else State.FAILED
                self._reason = exc.message
                return
        if any(
            found[member].manifest != manifest
            for member, manifest in zip(self.plan.members, self.plan.manifests, strict=True)
        ):
            plan = self._replan(found)
            if isinstance(plan, str):
                self._state, self._reason = State.FAILED, plan
                return
            self.plan, self.manifest = plan, describe(plan)
        self._members = found
        self.staying = staying(self.plan, lambda member: _device_of(found[member]))
        # Its turn is in the class of the models that it may run then and there.
        self.rank = max(release.rank for release in found.values())
        self._state, self._reason = State.READY, ""

    def identity(self) -> bytes:
        """Who answers: this very plan, by what its models are now.

        A pipeline is made anew with each configuration, with files that are not named in it.
        """
        self._look()
        members = [release.identity() for release in self._members.values()]
        return repr((self.key.model, id(self), self.plan.config.release, members)).encode()

    def stay(self) -> Callable[[], None]:
        """Keep its models loaded, as for a request in work, until what this returns is called."""
        self._look()
        ends = [release.stay() for release in self._members.values()]

        def let_go() -> None:
            for end in ends:
                end()

        return let_go

    def offer(self, item: Waiting) -> Waiting:
        """Take a request; its models are held until it is answered.

        Raises:
            ModelNotReadyError: one of them is not there any more.
            QueueFullError: more rows in work than the pipeline may have.
        """
        self._look()
        if self._state is not State.READY:
            raise ModelNotReadyError(f"{self.owner}: {self._reason}")
        config = self.plan.config
        rows, size = self._rows + item.rows, self._bytes + item.size_bytes
        if self.in_flight and (rows > config.max_rows or size > config.max_size):
            raise QueueFullError(
                f"{self.owner}: {self._rows} rows of {self._bytes} bytes are in work; the limits "
                f"are {config.max_rows} (max_rows) and {config.max_size} (max_size)",
                retry_after_ns=_AGAIN_NS,
            )
        self.in_flight += 1
        self._rows, self._bytes = rows, size
        self.backlog.add(item)
        streamed = self.plan.streamed
        if streamed is None or type(item.request) is not StreamRequest:
            run = PipelineRun(self, item, self._members)
        else:
            run = self._stream(item, item.request, streamed)
        self._runs[id(item)] = run
        run.ends = [release.stay() for release in self._members.values()]
        if not self._is_scheduled:
            self._is_scheduled = True
            self.turn.ask(self, asyncio.get_running_loop())
        return item

    def _stream(self, item: Waiting, request: StreamRequest, streamed: Streamed) -> PipelineRun:
        """A request that takes several answers, where it wants what there are several of."""
        if request.outputs and not set(request.outputs) & set(streamed.names):
            return PipelineRun(self, item, self._members)
        self.tally.streams.requests += 1
        return StreamRun(self, item, self._members, streamed, request.flow)

    def give(self, run: PipelineRun, index: int, outputs: Mapping[str, Array]) -> None:
        """Give one of several answers."""
        item = run.item
        self.tally.streams.gave(index, time.monotonic_ns() - item.enqueued_ns)
        response = InferResponse(self.plan.name, self.number, item.generation, outputs)
        try:
            item.on_response(response, False)
        except Exception:
            log.exception("a transport's callback raised for %s", item.request.origin)

    def pump(self) -> int:
        """Begin what waits; returns for how long that held up the loop."""
        self._is_scheduled = False
        items = self.backlog.clear()
        began_ns = time.monotonic_ns()
        for item in items:
            self._runs[id(item)].start(is_alone=len(items) == 1)
        self.expected_ns = time.monotonic_ns() - began_ns
        return self.expected_ns

    def withdraw(self, item: Waiting) -> bool:
        """Give up a request; what of it runs with a model is waited for."""
        run = self._runs.get(id(item))
        if run is None:
            return False
        if item in self.backlog.items:
            self.backlog.remove((item,))
            self.over(run, {}, CancelledError(f"{self.owner}: withdrawn before its turn"))
            return True
        return run.cancel()

    def offer_to(
        self, release: Served, generation: int, request: InferRequest, on_response: OnResponse
    ) -> Ticket | None:
        """Ask a model by the one door's way.

        Raises:
            EdgedError: it takes nothing, its worker has died, or it slept when another one took
                its place: nobody would ever look into its queue.
        """
        if release.state is State.UNLOADED:
            raise ModelNotReadyError(f"{release.owner} was replaced meanwhile; ask again")
        if not release.answers and release.state is not State.DRAINING:
            why = f": {release.reason}" if release.reason else ""
            raise ModelNotReadyError(f"{release.owner} is {release.told_state}{why}")
        return offer(release, generation, request, on_response)

    def over(
        self, run: PipelineRun, outputs: Mapping[str, Array], error: EdgedError | None
    ) -> None:
        """Answer a request and let its models go."""
        item, counters = run.item, self.counters
        del self._runs[id(item)]
        now_ns = time.monotonic_ns()
        waited_ns, run_ns = run.started_ns - item.enqueued_ns, now_ns - run.started_ns
        run_ns -= run.paused_ns
        duration_ns = now_ns - item.enqueued_ns
        if error is None:
            counters.ran(run_ns, item.rows)
            counters.served(item.request.origin, waited_ns, duration_ns)
        else:
            counters.answered(item.request.origin, error, duration_ns)
        self.in_flight -= 1
        self._rows -= item.rows
        self._bytes -= item.size_bytes
        response = InferResponse(
            self.plan.name, self.number, item.generation, outputs, error, waited_ns, run_ns,
            item.rows,
        )  # fmt: skip
        try:
            item.on_response(response, True)
        except Exception:
            log.exception("a transport's callback raised for %s", item.request.origin)
        for let_go in run.ends:
            let_go()


def _device_of(release: Served) -> str:
    """Where a model's tensors may stay; nowhere when others look at them on their way."""
    if release.cache is not None or release.is_stateful or release.remote is not None:
        return ""
    return place_of(release.session)


class _NoSession:
    """Says that a pipeline has no run that could be bound to memory."""

    def __init__(self, plan: Plan) -> None:
        self.inputs: Sequence[TensorSpec] = plan.inputs
        self.outputs: Sequence[TensorSpec] = plan.outputs

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        raise NotImplementedError

    def bind(self, _inputs: Mapping[str, Array], _outputs: Mapping[str, Array]) -> BoundRun | None:
        return None

    def close(self) -> None:
        pass
