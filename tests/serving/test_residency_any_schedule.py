"""Random schedules of requests, loads, failures, swaps and budgets over a whole manager.

Time and the loader move only when the schedule says so, so that whatever it finds shrinks to a few
steps. What holds: no load begins without room for it, nobody is sent away at work or when pinned,
and in the end everybody has one answer, the right one, and whoever is wanted can be asked.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.config.memory import ModelMemoryConfig
from edged.config.schema import BatchingConfig, ModelConfig
from edged.errors import (
    CancelledError,
    DeadlineExceededError,
    DrainingError,
    LoadError,
    ModelNotFoundError,
    ModelNotReadyError,
    QueueFullError,
)
from edged.messages import InferRequest, InferResponse, Ticket
from edged.runtimes.base import Artefact
from edged.serving.dataplane import Dataplane, ServingTable
from edged.serving.lifecycle import State
from edged.serving.manager import Desired, Manager
from edged.serving.router import Route
from tests.fakes.clock import Clock, turns, until
from tests.fakes.loader import make_loader
from tests.fakes.model import FakeRuntime, FakeSession, FakeStored, doubler

MS = 1_000_000
SIZES = {"pinned": 10, "small": 5, "middle": 10, "replaced": 10, "large": 20}
NAMES = tuple(SIZES)
BUDGET = 35
EXPECTED = (
    ModelNotReadyError, DeadlineExceededError, QueueFullError, CancelledError, DrainingError,
    ModelNotFoundError,
)  # fmt: skip
"""What a request may hear in place of numbers; each where its reason was there."""


class OneAtATime(Executor):
    """A thread that works only when it is told to."""

    def __init__(self, begins: Callable[[], None]) -> None:
        self.jobs: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self.begins = begins

    def submit(self, job: Callable[..., Any], /, *given: Any, **_: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.begins()
        self.jobs.append((future, functools.partial(job, *given)))
        return future

    def work(self) -> bool:
        """Do the next job, if there is one."""
        if not self.jobs:
            return False
        future, job = self.jobs.popleft()
        try:
            future.set_result(job())
        except BaseException as exc:
            future.set_exception(exc)
        return True

    def shutdown(self, *_: Any, **__: Any) -> None:
        self.jobs.clear()


class Session(FakeSession):
    """Knows its size, and whether it was closed while it ran."""

    def __init__(self, size: int, gate: threading.Event) -> None:
        super().__init__()
        self.size = size
        self.gate = gate
        self.running = 0
        self.was_torn = False
        self._lock = threading.Lock()

    def run(self, inputs: Any) -> Any:
        with self._lock:
            self.running += 1
        try:
            return super().run(inputs)
        finally:
            with self._lock:
                self.running -= 1

    def close(self) -> None:
        self.was_torn |= bool(self.running)
        super().close()


class Runtime(FakeRuntime):
    """Loads such sessions, and holds every load against the budget."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[tuple[str, Session]] = []
        self.gates = {name: threading.Event() for name in NAMES}
        self.budget = BUDGET
        self.overdrawn: list[str] = []

    def estimate_bytes(self, artefact: Artefact) -> int:
        return SIZES[artefact.model]

    def load(self, artefact: Artefact) -> FakeSession:
        name = artefact.model
        there = [(n, one.size) for n, one in self.made if not one.closed]
        if sum(size for _, size in there) + SIZES[name] > self.budget:
            self.overdrawn.append(f"{name} beside {there} in {self.budget}")
        if self.error is not None:
            raise self.error
        session = Session(SIZES[name], threading.Event())
        session.gate.set()  # its golden samples
        self.made.append((name, session))
        return session


class Asked:
    """A request and what it heard."""

    def __init__(self, name: str, value: float, deadline_ns: int | None) -> None:
        self.name, self.value, self.deadline_ns = name, value, deadline_ns
        self.ticket: Ticket | None = None
        self.responses: list[InferResponse] = []

    def __call__(self, response: InferResponse, final: bool) -> None:
        assert final
        self.responses.append(response)

    def check(self) -> None:
        assert len(self.responses) == 1, f"{self.name} was answered {len(self.responses)} times"
        error = self.responses[0].error
        if error is None:
            assert (self.responses[0].outputs["y"] == 2 * self.value).all(), "another's rows"
        elif isinstance(error, DeadlineExceededError):
            assert self.deadline_ns is not None
        else:
            assert isinstance(error, EXPECTED), error


class Box:
    """A manager with its door, whose loader and clock are moved by hand."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.runtime = Runtime()
        self.thread = OneAtATime(self.begins)
        self.manager = Manager(make_loader(lambda _: self.runtime), 0, self.open, {"cpu": BUDGET})
        self.manager._thread.shutdown(wait=False)
        self.manager._thread = self.thread  # type: ignore[assignment]
        for _, home in self.manager.memories.items():
            home._thread = self.thread
        self.memory = self.manager.memories.of(ModelConfig(bundle="b"))
        self.plane = Dataplane()
        self.asked: list[Asked] = []
        self.releases: dict[str, Desired] = {name: self.desired(name, 1) for name in NAMES}
        self.dropped: set[str] = set()
        self.bad: set[int] = set()
        """Releases that break their promise; without trials one that is not loaded may pass."""
        self.count = 0
        self.held: list[Callable[[], None]] = []
        self.swap: asyncio.Task[None] | None = None

    def desired(self, name: str, number: int, *, is_good: bool = True) -> Desired:
        memory = ModelMemoryConfig(
            pinned=name == "pinned",
            load="lazy" if name in ("small", "large") else "eager",
            swap="replace" if name == "replaced" else "overlap",
        )
        config = ModelConfig(
            bundle="b", memory=memory, batching=BatchingConfig(max_batch=3, instances=2)
        )
        stored = FakeStored(doubler(name, number), off_by=0.0 if is_good else 1.0)
        return Desired(f"{name}{number}", stored, config)

    def wanted(self) -> list[Desired]:
        return [one for name, one in self.releases.items() if name not in self.dropped]

    def open(self) -> None:
        """Let the door lead to what is wanted now."""
        routes = {}
        known = {release.key: release for release in self.manager.releases()}
        for one in self.wanted():
            if one.key in known:
                release = known[one.key]
                routes[one.key.model] = Route(one.key.model, {release.number: release})
        self.plane.swap(ServingTable(self.plane.table.generation + 1, routes))

    async def start(self) -> None:
        """As after a quiet start: what there is room for is there."""
        self.manager.want(self.wanted())
        while self.work():
            await self.breathe()
        self.open()

    def ask(self, name: str, deadline: int | None) -> None:
        self.count += 1
        deadline_ns = None if deadline is None else self.clock.now_ns + deadline * MS
        asked = Asked(name, self.count, deadline_ns)
        self.asked.append(asked)
        inputs = {"x": np.full((1 + self.count % 2, 4), self.count, np.float32)}
        asked.ticket = self.plane.submit(InferRequest(name, inputs, deadline_ns=deadline_ns), asked)

    def begins(self) -> None:
        """What a load may take is decided when it begins, whatever is configured meanwhile."""
        self.runtime.budget = self.memory.ledger.budget

    def work(self, *, is_good: bool = True) -> bool:
        """Let the loader do one thing, well or not."""
        self.runtime.error = None if is_good else LoadError("no such kernel")
        done = self.thread.work()
        for name, session in self.runtime.made:
            session.gate = self.runtime.gates[name]  # from here on those who ask
        return done

    async def to_release(self, name: str, number: int, *, is_good: bool) -> None:
        """What a reload does: both, then the new one alone, or the old one when that fails."""
        if not is_good:
            self.bad.add(number)
        old, new = self.releases[name], self.desired(name, number, is_good=is_good)
        others = [one for one in self.wanted() if one is not old]
        self.manager.want([*others, new], leaving=[old])
        await self.manager.settled([new.key])
        if self.manager.get(new.key).state is not State.FAILED:
            self.releases[name] = new
        self.open()
        self.manager.want(self.wanted())

    def check(self) -> None:
        """What holds at any time."""
        assert not self.runtime.overdrawn, "a load began where there was no room"
        assert not any(one.was_torn for _, one in self.runtime.made), "closed while it ran"
        for release in self.manager.releases():
            assert release.in_flight >= 0
            if release.key.model == "pinned":
                assert not release.evictions, "a pinned one was sent away"

    async def end(self) -> None:
        """Everything goes well from here on: no deadlock, and nobody is forgotten."""
        for gate in self.runtime.gates.values():
            gate.set()
        while self.held:
            self.held.pop()()
        for _ in range(400):
            await self.breathe()
            if not self.work() and self.is_quiet():
                break
            await self.clock.forward(60 * MS if self.thread.jobs or not self.is_idle() else 5 * MS)
        assert self.is_quiet(), (
            [r.state for r in self.manager.releases()], self.memory.as_dict(),
            [one.name for one in self.asked if not one.responses],
        )  # fmt: skip
        for asked in self.asked:
            asked.check()

    def is_idle(self) -> bool:
        return not any(release.running for release in self.manager.releases())

    def is_quiet(self) -> bool:
        return (
            all(one.responses for one in self.asked)
            and not self.memory._line.waiting()
            and self.memory._work is None
            and (self.swap is None or self.swap.done())
            and not any(release.in_flight for release in self.manager.releases())
        )

    async def breathe(self) -> None:
        """Let threads whose gate is open come to their ends."""
        await turns()
        free = [n for n, gate in self.runtime.gates.items() if gate.is_set()]

        def is_done() -> bool:
            return not any(
                r.running > r._is_in_hand and r.key.model in free for r in self.manager.releases()
            )  # fmt: skip

        await until(is_done)
        await turns()


names = st.integers(0, len(NAMES) - 1)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), names, st.sampled_from([None, None, 20, 200, 5000])),
        st.tuples(st.just("ask"), names, st.none()),
        st.tuples(st.just("withdraw"), st.integers(0, 30), st.none()),
        st.tuples(st.just("work"), st.integers(0, 5), st.none()),
        st.tuples(st.just("work on"), st.integers(1, 9), st.none()),
        st.tuples(st.just("forward"), st.sampled_from([1, 20, 60, 3000]), st.none()),
        st.tuples(st.just("hold"), names, st.none()),
        st.tuples(st.just("let go"), names, st.none()),
        st.tuples(st.just("keep"), names, st.none()),
        st.tuples(st.just("let be"), st.just(0), st.none()),
        st.tuples(st.just("budget"), st.sampled_from([30, 35, 50]), st.none()),
        st.tuples(st.just("swap"), names, st.sampled_from([0, 1, 1])),
        st.tuples(st.just("drop"), names, st.none()),
    ),
    min_size=10,
    max_size=60,
)


def act(box: Box, what: str, number: int, more: int | None) -> None:
    name = NAMES[number % len(NAMES)]
    if what == "ask":
        box.ask(name, more)
    elif what == "withdraw" and box.asked:
        ticket = box.asked[number % len(box.asked)].ticket
        if ticket is not None:
            ticket.cancel()
    elif what == "work":
        box.work(is_good=number > 0)
    elif what == "hold":
        box.runtime.gates[name].clear()
    elif what == "let go":
        box.runtime.gates[name].set()
    elif what == "keep":  # as a pipeline does, from its first step to its last
        for release in box.manager.releases():
            if release.key.model == name and release.answers:
                box.held.append(release.stay())
    elif what == "let be" and box.held:
        box.held.pop(0)()
    elif what == "budget":
        box.memory.set_budget(number)
    elif what == "drop" and (box.swap is None or box.swap.done()) and name != "pinned":
        box.dropped ^= {name}
        box.manager.want(box.wanted())
        box.open()
    elif what == "swap" and (box.swap is None or box.swap.done()) and name not in box.dropped:
        box.count += 1
        number = 1 + box.count
        task = box.to_release(name, number, is_good=bool(more))
        box.swap = asyncio.get_running_loop().create_task(task)


async def act_on(box: Box, what: str, number: int, more: int | None) -> None:
    if what == "forward":
        await box.clock.forward(number * MS)
    elif what == "work on":
        for _ in range(number):
            box.work()
            await box.breathe()
            await box.clock.forward(5 * MS)
    else:
        act(box, what, number, more)


async def play(steps: list[tuple[str, int, int | None]]) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        clock = Clock(monkeypatch)
        box = Box(clock)
        for gate in box.runtime.gates.values():
            gate.set()
        try:
            await box.start()
            for what, number, more in steps:
                await act_on(box, what, number, more)
                await box.breathe()
                box.check()
            await box.end()
            box.check()
            if box.swap is not None:
                box.swap.result()
            await everybody_answers(box)
        finally:
            for gate in box.runtime.gates.values():
                gate.set()
            box.manager.stop()


async def everybody_answers(box: Box) -> None:
    """Also after the strangest hours whoever is wanted can be asked, and memory is in order."""
    box.memory.set_budget(BUDGET)
    await clock_past_retries(box)
    before = len(box.asked)
    for one in box.wanted():
        box.ask(one.key.model, None)
    await box.end()
    for asked in box.asked[before:]:
        error = asked.responses[0].error
        if box.releases[asked.name].stored.manifest.release not in box.bad:
            assert error is None, f"{asked.name}: {error.message}"
    ledger = box.memory.ledger
    inside = {r.key for r in box.manager.releases() if r.session is not None}
    assert set(ledger.sizes()) == inside
    assert ledger.used <= ledger.budget
    while box.thread.work():
        pass
    there = [session for _, session in box.runtime.made if not session.closed]
    await until(lambda: sum(not s.closed for _, s in box.runtime.made) == len(inside)), there
    for _, slots in box.manager.devices.items():
        assert (slots.held.total, slots.held.express, slots.waiting) == (0, 0, 0)


async def clock_past_retries(box: Box) -> None:
    """Failed loads are tried again after a minute at most."""
    for _ in range(30):
        await box.clock.forward(61_000 * MS)
        await box.breathe()
        if not box.work() and all(
            box.manager.get(one.key).state in (State.READY, State.ASLEEP) for one in box.wanted()
        ):
            return


@given(STEPS)
@settings(max_examples=20, deadline=None)
def test_any_schedule(steps: list[tuple[str, int, int | None]]):
    asyncio.run(play(steps))


@pytest.mark.slow
@given(STEPS)
@settings(max_examples=120, deadline=None)
def test_many_schedules(steps: list[tuple[str, int, int | None]]):
    asyncio.run(play(steps))
