"""Releases come into memory and go again; whoever asks has an answer, and the right one."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from edged.config.memory import ModelMemoryConfig
from edged.config.schema import ModelConfig
from edged.errors import GoldenMismatchError, LoadError, ModelNotReadyError
from edged.messages import InferRequest, InferResponse, PrepareRequest
from edged.runtimes.base import Artefact
from edged.serving.dataplane import Dataplane, ServingTable
from edged.serving.lifecycle import State
from edged.serving.manager import Desired, Manager
from edged.serving.memory.load_line import PATIENCE_NS
from edged.serving.release import ServedRelease
from edged.serving.router import Route
from edged.tensors import TensorSpec
from tests.fakes.clock import on_loop, turns, until
from tests.fakes.loader import make_loader
from tests.fakes.model import FakeRuntime, FakeSession, FakeStored, doubler

X = np.ones((1, 4), np.float32)
SIZE = 10
"""Of each model: what the fake runtime says is the bound, and more than nothing is measured."""
LAZY = ModelMemoryConfig(load="lazy")


class Sized(FakeRuntime):
    """Every model takes SIZE, whatever this process measures."""

    def estimate_bytes(self, artefact: Artefact) -> int:
        return SIZE * {"large": 5, "giant": 20}.get(artefact.model, 1)


def want(name: str, number: int = 1, memory: ModelMemoryConfig = LAZY, **stored: Any) -> Desired:
    made = FakeStored(doubler(name, number), **stored)
    return Desired(f"{name}{number}", made, ModelConfig(bundle="b", memory=memory))


class House:
    """A manager with a budget, and a door to its releases."""

    def __init__(self, budget: int) -> None:
        self.runtime = Sized()
        self.changes = 0
        self.manager = Manager(make_loader(lambda _: self.runtime), 0, self.note, {"cpu": budget})
        self.memory = self.manager.memories.of(ModelConfig(bundle="b"))
        self.plane = Dataplane()
        self.gates: list[threading.Event] = []

    def note(self) -> None:
        self.changes += 1

    async def serve(self, *desired: Desired) -> None:
        self.manager.want(desired)
        await self.manager.settled([item.key for item in desired])
        self.open_door(*desired)

    def open_door(self, *desired: Desired) -> None:
        routes: dict[str, dict[int, ServedRelease]] = {}
        for item in desired:
            release = self.manager.get(item.key)
            routes.setdefault(item.key.model, {})[release.number] = release
        self.plane.swap(ServingTable(1, {name: Route(name, made) for name, made in routes.items()}))

    def ask(self, name: str, value: float = 1.0, deadline_ns: int | None = None) -> Asked:
        asked = Asked(value)
        inputs = {"x": np.full((1, 4), value, np.float32)}
        self.plane.submit(InferRequest(name, inputs, deadline_ns=deadline_ns), asked)
        return asked

    def release(self, name: str, number: int = 1) -> ServedRelease:
        return next(
            one for one in self.manager.releases()
            if (one.key.model, one.number) == (name, number)
        )  # fmt: skip

    def states(self) -> dict[str, str]:
        return {r.key.digest: r.state.value for r in self.manager.releases()}

    def inside(self) -> set[str]:
        return {r.key.digest for r in self.manager.releases() if r.session is not None}

    def gate(self, release: ServedRelease) -> threading.Event:
        """Let its runs take until the event is set."""
        session = release.session
        assert isinstance(session, FakeSession)
        session.gate = threading.Event()
        self.gates.append(session.gate)
        return session.gate

    def end(self) -> None:
        for gate in self.gates:
            gate.set()
        if self.runtime.gate is not None:
            self.runtime.gate.set()
        self.manager._thread.shutdown(wait=True)


class Asked:
    """What became of one request."""

    def __init__(self, value: float) -> None:
        self.value = value
        self.responses: list[InferResponse] = []

    def __call__(self, response: InferResponse, final: bool) -> None:
        assert final
        self.responses.append(response)

    @property
    def is_right(self) -> bool:
        (response,) = self.responses
        return response.error is None and bool((response.outputs["y"] == 2 * self.value).all())

    @property
    def error(self) -> Any:
        (response,) = self.responses
        return response.error


@pytest.fixture
def make_house() -> Iterator[Any]:
    made: list[House] = []

    def make(budget: int) -> House:
        made.append(House(budget))
        return made[-1]

    yield make
    for house in made:
        house.end()


class TestLazy:
    @on_loop
    async def test_loads_at_the_first_request(self, make_house):
        house = make_house(100)
        await house.serve(want("a"), want("b"))
        assert house.states() == {"a1": "asleep", "b1": "asleep"}
        assert house.release("a").reason == "its first request loads it"
        assert house.runtime.loads == []
        asked = house.ask("a", 3)
        await until(lambda: asked.responses)
        assert asked.is_right
        assert house.states() == {"a1": "ready", "b1": "asleep"}
        assert house.memory.ledger.used == SIZE

    @on_loop
    async def test_many_wait_for_one_load(self, make_house):
        house = make_house(100)
        await house.serve(want("a"))
        asked = [house.ask("a", value) for value in range(40)]
        assert not any(one.responses for one in asked)
        await until(lambda: all(one.responses for one in asked))
        assert all(one.is_right for one in asked)
        assert house.runtime.loads == ["a"]

    @on_loop
    async def test_waits_to_its_deadline_and_is_told_when(self, make_house):
        house = make_house(100)
        await house.serve(want("a"))
        house.runtime.gate = threading.Event()
        now_ns = time.monotonic_ns()
        patient, hasty = house.ask("a"), house.ask("a", deadline_ns=now_ns + 20_000_000)
        await until(lambda: hasty.responses)
        assert time.monotonic_ns() >= now_ns + 20_000_000
        assert type(hasty.error) is ModelNotReadyError
        assert "not in memory" in hasty.error.message
        assert 10_000_000 <= hasty.error.retry_after_ns <= 1_000_000_000
        assert not patient.responses
        house.runtime.gate.set()
        await until(lambda: patient.responses)
        assert patient.is_right

    @on_loop
    async def test_withdrawn_while_it_waits(self, make_house):
        house = make_house(100)
        await house.serve(want("a"))
        house.runtime.gate = threading.Event()
        asked = Asked(1)
        ticket = house.plane.submit(InferRequest("a", {"x": X}), asked)
        assert ticket is not None
        assert ticket.cancel()
        assert asked.error.code.name == "CANCELLED"
        assert house.release("a").in_flight == 0

    @on_loop
    async def test_a_load_that_fails_says_why_and_is_tried_again(self, make_house, monkeypatch):
        monkeypatch.setattr("edged.serving.manager.retry_delay_ns", lambda _: 5_000_000)
        house = make_house(100)
        await house.serve(want("a"))
        house.runtime.error = LoadError("no such kernel")
        asked = house.ask("a")
        await until(lambda: asked.responses)
        assert type(asked.error) is ModelNotReadyError
        assert "no such kernel" in asked.error.message
        assert asked.error.retry_after_ns == 5_000_000
        assert house.memory.ledger.used == 0
        house.runtime.error = None
        await until(lambda: house.states() == {"a1": "asleep"} or house.release("a").answers)
        again = house.ask("a")
        await until(lambda: again.responses)
        assert again.is_right

    @on_loop
    async def test_broken_promises_are_seen_at_the_load(self, make_house):
        house = make_house(100)
        await house.serve(want("a", off_by=1.0))
        asked = house.ask("a")
        await until(lambda: asked.responses)
        assert "golden" in asked.error.message
        assert house.states() == {"a1": "failed"}
        assert isinstance(asked.error, ModelNotReadyError)
        assert GoldenMismatchError.__name__ not in asked.error.message

    @on_loop
    async def test_the_end_answers_who_waits(self, make_house):
        house = make_house(100)
        await house.serve(want("a"))
        house.runtime.gate = threading.Event()
        asked = house.ask("a")
        await until(lambda: house.runtime.loads)
        house.manager.stop()
        assert asked.responses, "nobody is left without an answer"
        house.runtime.gate.set()
        await until(lambda: house.runtime.sessions and house.runtime.sessions[0].closed)


class TestEviction:
    @on_loop
    async def test_the_least_asked_for_goes(self, make_house):
        house = make_house(2 * SIZE)
        names = ["a", "b", "c"]
        await house.serve(*map(want, names))
        for name in ["a", "b", "a", "a", "b", "a", "c"]:
            asked = house.ask(name)
            await until(lambda asked=asked: asked.responses)
            assert asked.is_right
        assert house.inside() == {"a1", "c1"}
        gone = house.release("b")
        assert (gone.state, gone.evictions) == (State.ASLEEP, 1)
        assert gone.reason == 'made room for model "c" release 1'
        await until(lambda: [s.closed for s in house.runtime.sessions] == [0, 1, 0])

    @on_loop
    async def test_a_session_is_closed_before_the_load_that_it_made_room_for(self, make_house):
        house = make_house(SIZE)
        await house.serve(want("a"), want("b"))
        first = house.ask("a")
        await until(lambda: first.responses)
        seen = []
        load = house.runtime.load
        house.runtime.load = lambda artefact: (
            seen.append([s.closed for s in house.runtime.sessions]), load(artefact)
        )[1]  # fmt: skip
        second = house.ask("b")
        await until(lambda: second.responses)
        assert seen == [[1]]

    @on_loop
    async def test_random_requests_are_all_right_and_within_the_budget(self, make_house):
        house = make_house(3 * SIZE + SIZE // 2)
        names = [f"m{number}" for number in range(8)]
        await house.serve(*map(want, names))
        chance = random.Random(5)
        asked: list[Asked] = []
        ledger = house.memory.ledger
        for _ in range(250):
            asked.append(house.ask(chance.choice(names), chance.randrange(1000)))
            if chance.random() < 0.3:
                await until(lambda: len([one for one in asked if not one.responses]) < 6)
            await turns(chance.randrange(4))
            assert ledger.used <= ledger.budget
            assert len(house.inside()) <= 3
        await until(lambda: all(one.responses for one in asked))
        assert all(one.is_right for one in asked)
        assert sum(release.evictions for release in house.manager.releases()) > 20
        await until(lambda: sum(not s.closed for s in house.runtime.sessions) <= 3)

    @on_loop
    async def test_who_is_at_work_is_waited_for(self, make_house):
        house = make_house(SIZE)
        await house.serve(want("a"), want("b"))
        first = house.ask("a")
        await until(lambda: first.responses)
        gate = house.gate(house.release("a"))
        running = house.ask("a", 2)
        await until(lambda: house.release("a").running)
        other = house.ask("b", 3)
        # Longer than a load is patient: what runs now ends, what comes now waits for its next load.
        until_ns = time.monotonic_ns() + 2 * PATIENCE_NS
        await until(lambda: time.monotonic_ns() > until_ns and house.release("a").is_held)
        late = house.ask("a", 4)
        await turns(20)
        assert not [one for one in (running, other, late) if one.responses]
        assert house.inside() == {"a1"}
        gate.set()
        await until(lambda: running.responses and other.responses and late.responses)
        assert running.is_right
        assert other.is_right
        assert late.is_right
        assert house.runtime.loads == ["a", "b", "a"]

    @on_loop
    async def test_who_fell_quiet_in_vain_goes_on(self, make_house):
        """The load that it was to go for found room elsewhere."""
        house = make_house(SIZE)
        await house.serve(want("a"), want("b"))
        first = house.ask("a")
        await until(lambda: first.responses)
        gate = house.gate(house.release("a"))
        running, other = house.ask("a", 2), house.ask("b", 3)
        await until(lambda: house.release("a").is_held)
        waiting = house.ask("a", 4)
        house.memory.set_budget(2 * SIZE)
        gate.set()
        await until(lambda: running.responses and other.responses and waiting.responses)
        assert waiting.is_right
        assert house.runtime.loads == ["a", "b"]
        assert house.inside() == {"a1", "b1"}

    @on_loop
    async def test_pinned_ones_stay(self, make_house):
        house = make_house(2 * SIZE)
        pinned = want("p", memory=ModelMemoryConfig(pinned=True))
        await house.serve(want("a"), pinned, want("b"))
        assert house.inside() == {"p1"}
        for name in ["a", "b"] * 5:
            asked = house.ask(name)
            await until(lambda asked=asked: asked.responses)
            assert asked.is_right
        assert house.release("p").evictions == 0
        assert house.release("a").evictions == 5

    @on_loop
    async def test_what_can_never_fit_says_so(self, make_house):
        house = make_house(4 * SIZE)
        await house.serve(want("p", memory=ModelMemoryConfig(pinned=True)), want("giant"))
        asked = house.ask("giant")
        await until(lambda: asked.responses)
        message = asked.error.message
        assert "memory.budget" in message
        assert "raise it or unpin a model" in message
        assert house.states() == {"p1": "ready", "giant1": "failed"}

    @on_loop
    async def test_what_only_might_not_fit_is_given_all_there_is(self, make_house):
        house = make_house(4 * SIZE)
        pinned = want("p", memory=ModelMemoryConfig(pinned=True))
        await house.serve(pinned, want("a"), want("large"))
        for name in ("a", "large", "a", "large"):
            asked = house.ask(name)
            await until(lambda asked=asked: asked.responses)
            assert asked.is_right
        assert house.release("large").loads == 2, "it may come again"
        assert house.inside() == {"p1", "large1"}
        assert house.memory.ledger.used <= 4 * SIZE

    @on_loop
    async def test_a_start_takes_what_is_free_and_no_more(self, make_house):
        house = make_house(2 * SIZE)
        eager = ModelMemoryConfig()
        await house.serve(*(want(name, memory=eager) for name in "abc"))
        assert house.states() == {"a1": "ready", "b1": "ready", "c1": "asleep"}
        assert "no room at the start" in house.release("c").reason
        assert house.changes >= 3
        asked = house.ask("c")
        await until(lambda: asked.responses)
        assert asked.is_right

    @on_loop
    async def test_pinned_ones_load_first(self, make_house):
        house = make_house(2 * SIZE)
        eager, pinned = ModelMemoryConfig(), ModelMemoryConfig(pinned=True)
        await house.serve(*(want(name, memory=eager) for name in "abc"), want("p", memory=pinned))
        assert {"p1", "a1"} <= house.inside()

    @on_loop
    async def test_a_lowered_budget_sends_some_away(self, make_house):
        house = make_house(3 * SIZE)
        await house.serve(*(want(name, memory=ModelMemoryConfig()) for name in "abc"))
        assert len(house.inside()) == 3
        house.memory.set_budget(SIZE)
        assert len(house.inside()) == 1
        assert house.memory.ledger.over == 0
        await until(lambda: sum(not s.closed for s in house.runtime.sessions) == 1)

    @on_loop
    async def test_in_and_out_is_no_change_of_what_answers(self, make_house):
        house = make_house(SIZE)
        await house.serve(want("a"), want("b"))
        before = house.changes
        for name in "abab":
            asked = house.ask(name)
            await until(lambda asked=asked: asked.responses)
        assert house.changes == before

    @on_loop
    async def test_a_retired_one_gives_its_memory_back(self, make_house):
        house = make_house(SIZE)
        await house.serve(want("a", memory=ModelMemoryConfig()))
        await house.serve(want("b", memory=ModelMemoryConfig()))
        assert house.inside() == {"b1"}
        assert house.memory.ledger.used == SIZE

    @on_loop
    async def test_who_falls_quiet_and_is_retired_ends_all_the_same(self, make_house):
        house = make_house(SIZE)
        a, b = want("a"), want("b")
        await house.serve(a, b)
        first = house.ask("a")
        await until(lambda: first.responses)
        gate = house.gate(house.release("a"))
        running = house.ask("a")
        await until(lambda: house.release("a").running)
        waiting, other = house.ask("a"), house.ask("b")
        await until(lambda: house.release("a").is_held)
        house.manager.want([b])
        gate.set()
        await until(lambda: running.responses and waiting.responses and other.responses)
        assert running.is_right
        assert waiting.is_right
        assert other.is_right
        await until(lambda: house.inside() == {"b1"})


class TestPrepared:
    SPEC = TensorSpec("x", "float32", ("batch", 4))

    @on_loop
    async def test_a_call_survives_an_eviction(self, make_house):
        house = make_house(SIZE)
        await house.serve(want("a"), want("b"))
        call = house.plane.prepare(PrepareRequest("a", (self.SPEC,)))
        for name in ("b", "b"):
            first, second = Asked(7), house.ask(name)
            call.submit({"x": 7 * X}, 1, None, "t", first)
            await until(lambda one=first, two=second: one.responses and two.responses)
            assert first.is_right
            assert second.is_right

    @on_loop
    async def test_a_bound_run_is_not_run_after_an_eviction(self, make_house):
        house = make_house(SIZE)
        await house.serve(want("a"), want("b"))
        first = house.ask("a")
        await until(lambda: first.responses)
        release = house.release("a")
        release._inline_threshold_ns = 1 << 40  # so that the loop may wait for its runs
        call = house.plane.prepare(PrepareRequest("a", (self.SPEC,)))
        x, y = X.copy(), np.zeros_like(X)
        lone = call.bind({"x": x}, {"y": y}, 1)
        assert lone is not None
        assert lone.run("t") is not None
        other = house.ask("b")
        await until(lambda: other.responses)
        assert not lone.is_current
        assert lone.run("t") is None
        assert call.bind({"x": x}, {"y": y}, 1) is None, "nothing to bind while it is out"
        again = Asked(5)
        call.submit({"x": 5 * X}, 1, None, "t", again)
        await until(lambda: again.responses)
        assert again.is_right
        call.submit({"x": X}, 1, None, "t", Asked(1))  # looks up what has moved since
        await until(lambda: not release.in_flight)
        lone = call.bind({"x": x}, {"y": y}, 1)
        assert lone is not None
        assert lone.run("t") is not None


class TestReplace:
    REPLACE = ModelMemoryConfig(swap="replace")

    async def begin(self, house: House, **stored: Any) -> tuple[Desired, Desired]:
        old, new = want("a", 1, self.REPLACE), want("a", 2, self.REPLACE, **stored)
        await house.serve(old)
        house.runtime.gate = threading.Event()
        house.manager.want([new], leaving=[old])
        await until(lambda: len(house.runtime.loads) == 2)
        return old, new

    @on_loop
    async def test_the_old_one_goes_first_and_requests_wait(self, make_house):
        house = make_house(SIZE)  # not enough for both
        old, new = await self.begin(house)
        assert house.states() == {"a1": "asleep", "a2": "loading"}
        assert house.runtime.sessions[0].closed
        asked = house.ask("a", 3)
        await turns(20)
        assert not asked.responses
        house.runtime.gate.set()
        await house.manager.settled([new.key])
        await turns(20)
        assert house.states() == {"a1": "asleep", "a2": "ready"}
        house.open_door(new)
        house.manager.want([new])
        await until(lambda: asked.responses)
        assert asked.is_right
        assert asked.responses[0].release == 2
        assert house.states() == {"a2": "ready"}
        assert old.key not in {release.key for release in house.manager.releases()}

    @on_loop
    async def test_the_old_one_comes_back_when_the_new_one_fails(self, make_house):
        house = make_house(SIZE)
        old, new = await self.begin(house, off_by=1.0)
        asked = house.ask("a", 3)
        house.runtime.gate.set()
        await house.manager.settled([new.key])
        assert house.states()["a2"] == "failed"
        house.manager.want([old])
        await until(lambda: asked.responses)
        assert asked.is_right
        assert asked.responses[0].release == 1

    @on_loop
    async def test_the_old_one_comes_back_when_the_reload_fails_later(self, make_house):
        house = make_house(SIZE)
        old, new = await self.begin(house)
        house.runtime.gate.set()
        await house.manager.settled([new.key])
        house.manager.want([old])
        await until(lambda: house.states() == {"a1": "ready"})
        asked = house.ask("a", 3)
        await until(lambda: asked.responses)
        assert asked.is_right

    @on_loop
    async def test_overlap_keeps_both_and_needs_room_for_both(self, make_house):
        house = make_house(SIZE)
        eager = ModelMemoryConfig()
        old, new = want("a", 1, eager), want("a", 2, eager)
        await house.serve(old)
        house.manager.want([new], leaving=[old])
        await house.manager.settled([new.key])
        # The old one may go for it, for it is idle; whoever asks is answered after a load.
        assert house.states() == {"a1": "asleep", "a2": "ready"}

    @on_loop
    async def test_two_that_are_wanted_both_do_not_chase_each_other(self, make_house):
        house = make_house(SIZE)
        await house.serve(want("a", 1, self.REPLACE), want("a", 2, self.REPLACE))
        loads = len(house.runtime.loads)
        await turns(50)
        await asyncio.sleep(0.05)
        assert len(house.runtime.loads) == loads


@on_loop
async def test_the_wait_that_is_told_grows_with_the_line(make_house):
    house = make_house(SIZE)
    names = ["a", "b", "c"]
    await house.serve(*map(want, names))
    for release in house.manager.releases():
        release.footprint = release.footprint._replace(load_ns=100_000_000)
    house.runtime.gate = threading.Event()
    asked = [house.ask(name) for name in names]
    await until(lambda: house.runtime.loads)
    residency = house.memory
    waits_ns = [residency.ready_in_ns(house.release(name).key) for name in names]
    assert all(10_000_000 <= wait_ns <= 300_000_000 for wait_ns in waits_ns)
    assert all(later_ns - sooner_ns == pytest.approx(1e8, rel=0.5)
               for sooner_ns, later_ns in pairwise(waits_ns))  # fmt: skip
    house.runtime.gate.set()
    await until(lambda: all(one.responses for one in asked))
    assert residency.as_dict() == {"budget_bytes": 10, "promised_bytes": 10, "waiting_loads": 0}
