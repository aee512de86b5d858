"""Random company at the one door: models of every speed and class, and a pipeline over them.

Each row carries its own number, so that whoever gets another's is found out. What holds: exactly
one answer each; an error only with its reason, so that a bad member fails alone; no run begins for
a request whose time is over; and in the end nothing is held, counted or waited for.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.config.schema import BatchingConfig, ModelConfig, QueueConfig
from edged.errors import (
    CancelledError,
    DeadlineExceededError,
    ModelNotReadyError,
    QueueFullError,
    RunError,
)
from edged.messages import InferRequest, InferResponse, PrepareRequest, Ticket
from edged.pipelines.graph import Plan
from edged.pipelines.pipeline import PipelineRelease
from edged.pipelines.plan import plan_pipeline
from edged.serving.dataplane import Dataplane, ServingTable
from edged.serving.lifecycle import Event, ReleaseKey, State
from edged.serving.release import ServedRelease
from edged.serving.router import Route
from edged.serving.scheduling.precedence import Rules
from edged.serving.scheduling.slots import Devices
from edged.serving.scheduling.turn import Turn
from edged.serving.workshop import Workshop
from edged.tensors import TensorSpec
from tests.fakes.clock import Clock, turns, until
from tests.fakes.model import FakeSession, doubler
from tests.fakes.pipelines import config_of

MS = 1_000_000
KINDS = {"quick": ("normal", 100), "short": ("high", 10 * MS), "long": ("low", 10**9)}
"""Class, and how long a run is said to take."""
NAMES = (*KINDS, "pipe")
COSTS = ((1, 4 * MS), (2, 6 * MS), (4, 10 * MS))
PIPE = """\
    inputs: {x: "float32[batch,4]"}
    steps:
    - {name: a, model: short, inputs: x}
    - {name: b, model: quick, inputs: a, when: "min(x) > -100"}
    - {name: c, first: [b, a]}
    - {name: d, compute: c + x}
    outputs: {y: d}
"""
BAD = 0.5
"""In the last column of a row with which a model fails."""


class Asked:
    """A request, and what it heard."""

    def __init__(self, name: str, x: np.ndarray, deadline_ns: int | None) -> None:
        self.name, self.x, self.deadline_ns = name, x, deadline_ns
        self.is_bad = bool((x[:, 3] == BAD).any())
        self.is_withdrawn = False
        self.ticket: Ticket | None = None
        self.responses: list[InferResponse] = []

    def __call__(self, response: InferResponse, final: bool) -> None:
        assert final
        self.responses.append(response)

    def check(self) -> None:
        assert len(self.responses) == 1, f"{self.name} was answered {len(self.responses)} times"
        error = self.responses[0].error
        if error is None:
            assert not self.is_bad
            factor = 5 if self.name == "pipe" else 2
            np.testing.assert_array_equal(self.responses[0].outputs["y"], self.x * factor)
        elif isinstance(error, RunError):
            assert self.is_bad, f"failed with another's row: {error.message}"
        elif isinstance(error, CancelledError):
            assert self.is_withdrawn
        else:
            assert isinstance(error, DeadlineExceededError | QueueFullError | ModelNotReadyError), (
                error
            )
            # Who slept when it was replaced passes on what waits; a pipeline asks nobody else.
            is_free = isinstance(error, QueueFullError) or self.name == "pipe"
            assert self.deadline_ns is not None or is_free, error


class Plane:
    """A door to releases on one device; their runs wait for a gate, the clock for the schedule."""

    def __init__(self, clock: Clock, rules: Rules) -> None:
        self.clock = clock
        self.devices, self.turn = Devices(rules), Turn()
        self.turn.starvation_ns = rules.starvation_ns
        self.workshop = Workshop(self.turn)
        self.plane = Dataplane()
        self.gates = {name: threading.Event() for name in KINDS}
        self.current: dict[str, ServedRelease] = {}
        self.every: list[ServedRelease] = []
        self.pipes: list[PipelineRelease] = []
        self.asked: list[Asked] = []
        self.begun: set[float] = set()
        self.late: list[float] = []
        self.by_number: dict[float, Asked] = {}
        self.count = 1  # odd ones, so that twice one is nobody else's
        for name in KINDS:
            self.gates[name].set()
            self.current[name] = self.release(name, 1)
        self.calls: dict[str, Any] = {}
        self.open()
        spec = TensorSpec("x", "float32", ("batch", 4))
        for name in NAMES:
            self.calls[name] = self.plane.prepare(PrepareRequest(name, (spec,)))

    def run(self, name: str, inputs: Any) -> dict[str, np.ndarray]:
        """What every model does; notes whose time was over when it was first begun."""
        x = inputs["x"]
        for number in x[:, 0].tolist():
            asked = self.by_number.get(number)
            if asked is not None and (name, number) not in self.begun:
                self.begun.add((name, number))
                if asked.deadline_ns is not None and asked.deadline_ns <= self.clock.now_ns:
                    self.late.append(number)
        if name != "quick":
            assert self.gates[name].wait(15)
        if (x[:, 3] == BAD).any():
            raise RunError("a row of no use")
        return {"y": x * 2}

    def release(self, name: str, number: int) -> ServedRelease:
        priority, typical_ns = KINDS[name]
        config = ModelConfig(
            bundle="b",
            priority=priority,
            batching=BatchingConfig(max_batch=4, instances=2),
            queue=QueueConfig(max_rows=30),
        )
        key = ReleaseKey(name, f"d{number}", "")
        made = ServedRelease(
            key, doubler(name, number), config, 200_000, self.turn, devices=self.devices
        )
        made.on_idle = self.idle
        session = FakeSession(functools.partial(self.run, name))
        for event in (Event.LOAD, Event.LOADED, Event.WARMED):
            if event is Event.WARMED:
                made.loaded(session, "onnxruntime", typical_ns, COSTS if name == "short" else ())
            made.move(event)
        self.every.append(made)
        return made

    def idle(self, release: ServedRelease) -> None:
        """What the manager does with one that is wanted no longer and has nothing to do."""
        if release.state is State.DRAINING:
            release.move(Event.DRAINED)
        release.pass_on(self.current[release.key.model])
        release.close()

    def open(self) -> None:
        routes = {name: Route(name, {one.number: one}) for name, one in self.current.items()}
        plan, problems = plan_pipeline("pipe", config_of(PIPE), self.manifest, lambda _: None)
        assert plan is not None, problems
        pipe = PipelineRelease(plan, dict(routes), self.workshop, lambda _: self.again(plan))
        self.pipes.append(pipe)
        routes["pipe"] = Route("pipe", {pipe.number: pipe})
        self.plane.swap(ServingTable(self.plane.table.generation + 1, routes))

    def again(self, plan: Plan) -> Plan:
        return plan

    def manifest(self, name: str, _: object = None) -> Any:
        return self.current[name].manifest

    def ask(self, name: str, rows: int, deadline: int | None, how: str) -> None:
        self.count += 2
        x = np.zeros((rows, 4), np.float32)
        x[:, 0] = self.count
        x[:, 1] = np.arange(rows)
        if how == "bad":
            x[rows // 2, 3] = BAD
        deadline_ns = None if deadline is None else self.clock.now_ns + deadline * MS
        asked = Asked(name, x, deadline_ns)
        self.asked.append(asked)
        for factor in (1, 2):  # as it is, and as the pipeline's second model sees it
            self.by_number[float(self.count * factor)] = asked
        if how == "call":
            asked.ticket = self.calls[name].submit({"x": x}, rows, deadline_ns, "t", asked)
        else:
            request = InferRequest(name, {"x": x}, deadline_ns=deadline_ns)
            asked.ticket = self.plane.submit(request, asked)

    def lone(self, name: str) -> None:
        """As a connection that is alone does: from memory to memory, or not at all."""
        x, y = np.full((1, 4), 7, np.float32), np.zeros((1, 4), np.float32)
        run = self.calls[name].bind({"x": x}, {"y": y}, 1)
        if run is not None and run.run("t") is not None:
            np.testing.assert_array_equal(y, x * 2)

    def replace(self, name: str) -> None:
        """Another release takes over; what the old one has, it ends."""
        old = self.current[name]
        self.current[name] = self.release(name, old.number + 1)
        self.open()
        old.move(Event.RETIRE)
        if old.state is State.UNLOADED or not old.in_flight:
            self.idle(old)

    def evict(self, name: str) -> None:
        """Out of memory while nothing runs; what waits is called back by ``wake``."""
        release = self.current[name]
        if release.state is State.READY and not release.running:
            release.lay_down()
            release.move(Event.EVICT)

    def wake(self, name: str) -> None:
        release = self.current[name]
        if release.state is State.ASLEEP:
            release.move(Event.LOAD)
            release.move(Event.LOADED)
            session = FakeSession(functools.partial(self.run, name))
            release.loaded(session, "onnxruntime", KINDS[name][1])
            release.move(Event.WARMED)

    async def breathe(self) -> None:
        """Let whoever may run do so to the end."""
        await turns()
        free = [n for n, gate in self.gates.items() if gate.is_set()]
        await until(lambda: not any(r.running for r in self.every if r.key.model in free))
        await turns()

    async def end(self) -> None:
        for name in KINDS:
            self.wake(name)
            self.gates[name].set()
        await until(lambda: all(one.responses for one in self.asked))
        await self.breathe()
        await turns()
        for asked in self.asked:
            asked.check()
        assert not self.late, f"begun though their time was over: {self.late}"
        for release in [*self.every, *self.pipes]:
            assert (release.in_flight, release.running, release.backlog.rows) == (0, 0, 0)
        for _, slots in self.devices.items():
            assert (slots.held.total, slots.held.express, slots.held.short, slots.waiting) == (
                (0, 0, 0, 0)
            )
        for release in self.every:
            if release.state is State.READY:
                release.close()
        self.workshop.close()


numbers = st.integers(0, 9)
HOW = st.sampled_from(["plain", "plain", "plain", "bad", "call"])
ASK = st.tuples(
    st.just("ask"),
    st.integers(0, len(NAMES) - 1),
    st.tuples(st.integers(1, 7), st.sampled_from([None, None, 1, 5, 40, 1000]), HOW),
)
STEPS = st.lists(
    st.one_of(
        ASK,
        ASK,
        ASK,
        st.tuples(
            st.sampled_from(
                ["withdraw", "hold", "let go", "replace", "evict", "wake", "lone", "rules", "class",
                 "turn", "forward", "forward"]
            ),
            st.integers(0, 40),
            st.none(),
        ),
    ),
    min_size=10,
    max_size=60,
)  # fmt: skip


def act(box: Plane, what: str, number: int, more: tuple[int, int | None, str] | None) -> None:
    name = [*KINDS][number % len(KINDS)]
    if what == "ask":
        assert more is not None
        box.ask(NAMES[number % len(NAMES)], *more)
    elif what == "withdraw" and box.asked:
        asked = box.asked[-1 - number % len(box.asked)]
        asked.is_withdrawn = True
        if asked.ticket is not None:
            asked.ticket.cancel()
    elif what == "hold" and name != "quick":
        box.gates[name].clear()
    elif what == "rules":
        box.devices.configure(
            Rules(2 + number % 2, (1, 0, 0), 50 * MS, [None, (8, 4, 1)][number % 2])
        )
    elif what == "class":
        release = box.current[name]
        priority = ["high", "normal", "low"][number % 3]
        batching = BatchingConfig(max_batch=1 + number % 5, instances=2)
        release.configure(
            ModelConfig(bundle="b", priority=priority, batching=batching,
                        queue=release.config.queue)
        )  # fmt: skip
    else:
        do: dict[str, Callable[[str], Any]] = {
            "let go": lambda one: box.gates[one].set(),
            "replace": box.replace,
            "evict": box.evict,
            "wake": box.wake,
            "lone": box.lone,
        }
        do.get(what, lambda _: None)(name)


async def play(
    steps: list[tuple[str, int, Any]], weights: tuple[int, int, int] | None, is_slow: bool
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        clock = Clock(monkeypatch)
        box = Plane(clock, Rules(2, (0, 0, 0), 50 * MS, weights, has_express=is_slow))
        if is_slow:
            box.gates["short"].clear()
        try:
            for what, number, more in steps:
                if what == "forward":
                    await box.breathe()
                    await clock.forward(number * MS)
                elif what == "turn":
                    await box.breathe()
                else:
                    act(box, what, number, more)
            await box.breathe()
            await box.end()
        finally:
            for gate in box.gates.values():
                gate.set()


PLAY = (STEPS, st.sampled_from([None, (8, 4, 1)]), st.booleans())


@given(*PLAY)
@settings(max_examples=30, deadline=None)
def test_any_company(steps: Any, weights: Any, is_slow: bool):
    asyncio.run(play(steps, weights, is_slow))


@pytest.mark.slow
@given(*PLAY)
@settings(max_examples=150, deadline=None)
def test_much_company(steps: Any, weights: Any, is_slow: bool):
    asyncio.run(play(steps, weights, is_slow))
