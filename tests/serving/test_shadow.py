"""What is asked again: afterwards, within its cost, and never in anybody's way."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from edged.config.rollout import RolloutConfig
from edged.errors import RunError
from edged.messages import InferRequest, LentInputs, PrepareRequest
from edged.rollout.tally import Tally
from edged.serving.dataplane import Dataplane
from edged.serving.lifecycle import Event
from edged.serving.release import ServedRelease
from edged.serving.rollout import Rollout
from edged.serving.shadow import GATHER_S, Shadow
from edged.tensors import TensorSpec
from tests.fakes.clock import Clock, on_loop, turns, until
from tests.fakes.model import FakeSession
from tests.serving.test_dataplane import Answers, ask, served
from tests.serving.test_rollout import house, section

X = np.ones((2, 4), np.float32)
PAUSE_NS = int(GATHER_S * 1e9) + 1_000_000
LONG_PAUSE_NS = 20_000_000


def shadowed(session: FakeSession, **fields: object) -> tuple[Dataplane, Rollout]:
    config = section(shadow={"release": 2, "cost": 100, **fields})
    return house(config, served(FakeSession(), 1), served(session, 2))


async def one_by_one(plane: Dataplane, count: int, clock: Clock) -> list[Answers]:
    """Requests with as much time between them as the shadow waits for others."""
    found = []
    for _ in range(count):
        found.append(ask(plane))
        await turns(5)
        await clock.forward(PAUSE_NS)
    return found


@on_loop
async def test_answers_that_agree_and_answers_that_do_not(monkeypatch: pytest.MonkeyPatch):
    clock = Clock(monkeypatch)
    session = FakeSession()
    plane, rollout = shadowed(session)
    found = await one_by_one(plane, 5, clock)
    session.function = lambda inputs: {"y": inputs["x"] * 2.5}
    found += await one_by_one(plane, 3, clock)
    tally = rollout.entry.tally
    assert {answers[0].release for answers in found} == {1}
    assert (tally.compared, tally.differing, tally.dropped) == (8, 3, 0)
    assert tally.side(1).answers == 8
    assert "2" not in tally.sides


@on_loop
async def test_the_caller_has_its_answer_first(monkeypatch: pytest.MonkeyPatch):
    clock = Clock(monkeypatch)
    seen: list[str] = []

    def again(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        seen.append("again")
        return {"y": inputs["x"] * 2}

    plane, _ = shadowed(FakeSession(again))
    plane.submit(InferRequest("gate", {"x": X}), lambda _r, _f: seen.append("answered"))
    await turns(5)
    assert seen == ["answered"]
    await clock.forward(PAUSE_NS)
    assert seen == ["answered", "again"]


@on_loop
async def test_memory_that_is_the_callers_again_is_not_looked_at(monkeypatch: pytest.MonkeyPatch):
    clock = Clock(monkeypatch)
    plane, rollout = shadowed(FakeSession())
    mine = X.copy()

    def overwrite(_response: object, _final: bool) -> None:
        mine[:] = 9

    plane.submit(InferRequest("gate", LentInputs({"x": mine})), overwrite)
    await turns(5)
    await clock.forward(PAUSE_NS)
    assert (rollout.entry.tally.compared, rollout.entry.tally.differing) == (1, 0)


@on_loop
async def test_a_part_of_the_requests(monkeypatch: pytest.MonkeyPatch):
    clock = Clock(monkeypatch)
    plane, rollout = shadowed(FakeSession(), percent=25)
    await one_by_one(plane, 40, clock)
    assert rollout.entry.tally.compared == 10


@on_loop
async def test_one_that_fails(monkeypatch: pytest.MonkeyPatch):
    clock = Clock(monkeypatch)

    def fail(_inputs: object) -> dict[str, np.ndarray]:
        raise RunError("broken")

    plane, rollout = shadowed(FakeSession(fail))
    found = await one_by_one(plane, 3, clock)
    assert all(answers[0].error is None for answers in found)
    assert (rollout.entry.tally.compared, rollout.entry.tally.failed_again) == (0, 3)


@on_loop
async def test_what_failed_first_is_not_asked_again(monkeypatch: pytest.MonkeyPatch):
    clock = Clock(monkeypatch)

    def fail(_inputs: object) -> dict[str, np.ndarray]:
        raise RunError("broken")

    session = FakeSession()
    config = section(shadow={"release": 2, "cost": 100})
    plane, rollout = house(config, served(FakeSession(fail), 1), served(session, 2))
    await one_by_one(plane, 9, clock)
    assert not session.runs
    assert rollout.entry.tally.compared == rollout.entry.tally.dropped == 0


@on_loop
async def test_while_one_is_asked_again_others_are_not(monkeypatch: pytest.MonkeyPatch):
    clock = Clock(monkeypatch)
    session, gate = FakeSession(), threading.Event()
    session.gate = gate
    stable, slow = served(FakeSession(), 1), served(session, 2, typical_ns=10**9)
    plane, rollout = house(section(shadow={"release": 2, "cost": 100}), stable, slow)
    try:
        found = await one_by_one(plane, 10, clock)
        assert all(len(answers) == 1 for answers in found), "nobody waits for it"
        assert rollout.entry.tally.dropped == 9
    finally:
        gate.set()
    await until(lambda: rollout.entry.tally.compared == 1)
    assert session.runs == [2]


@on_loop
async def test_nothing_is_asked_again_while_the_device_is_busy(monkeypatch: pytest.MonkeyPatch):
    clock = Clock(monkeypatch)
    session, gate = FakeSession(), threading.Event()
    busy = FakeSession()
    busy.gate = gate
    stable, other = served(FakeSession(), 1), served(busy, 2, typical_ns=10**9)
    plane, rollout = house(section(shadow={"release": 2, "cost": 100}), stable, other)
    try:
        ask(plane, release=2)
        await turns(3)
        await one_by_one(plane, 3, clock)
        assert rollout.entry.tally.dropped == 3
    finally:
        gate.set()
    await until(lambda: not other.in_flight)
    assert not session.runs


class TestTogether:
    """Small requests that come soon after one another are asked again in one run."""

    @staticmethod
    async def asked(plane: Dataplane, count: int, clock: Clock, at: int = -1) -> None:
        for number in range(count):
            ask(plane, inputs={"x": X * 9 if number == at else X})
            await turns(5)
        await clock.forward(PAUSE_NS)

    @on_loop
    async def test_one_run_for_several(self, monkeypatch: pytest.MonkeyPatch):
        clock, session = Clock(monkeypatch), FakeSession()
        plane, rollout = shadowed(session)
        await self.asked(plane, 5, clock)
        assert session.runs == [10]
        assert (rollout.entry.tally.compared, rollout.entry.tally.differing) == (5, 0)

    @on_loop
    async def test_only_those_that_differ_are_counted_so(self, monkeypatch: pytest.MonkeyPatch):
        clock = Clock(monkeypatch)
        session = FakeSession(lambda inputs: {"y": np.minimum(inputs["x"] * 2, 10)})
        plane, rollout = shadowed(session)
        await self.asked(plane, 5, clock, at=3)
        assert session.runs == [10]
        assert (rollout.entry.tally.compared, rollout.entry.tally.differing) == (5, 1)

    @on_loop
    async def test_where_the_run_fails_each_is_asked(self, monkeypatch: pytest.MonkeyPatch):
        def fail(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            if inputs["x"].max() > 1:
                raise RunError("too large")
            return {"y": inputs["x"] * 2}

        clock = Clock(monkeypatch)
        plane, rollout = shadowed(FakeSession(fail))
        await self.asked(plane, 5, clock, at=3)
        tally = rollout.entry.tally
        assert (tally.compared, tally.failed_again, tally.dropped) == (4, 1, 0)

    @on_loop
    async def test_no_more_than_some_at_once(self, monkeypatch: pytest.MonkeyPatch):
        clock, session = Clock(monkeypatch), FakeSession()
        plane, rollout = shadowed(session)
        tally = rollout.entry.tally
        for times in (1, 2, 3):
            await self.asked(plane, 40, clock)
            assert (tally.compared, tally.dropped) == (16 * times, 24 * times)
            await clock.forward(LONG_PAUSE_NS)
        assert session.runs == [32] * 3

    @on_loop
    async def test_who_asks_for_more_is_left_alone_for_longer(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        clock, session = Clock(monkeypatch), FakeSession()
        plane, rollout = shadowed(session)
        tally = rollout.entry.tally
        await self.asked(plane, 17, clock)
        await self.asked(plane, 4, clock)
        assert (tally.compared, tally.dropped) == (16, 5)
        await clock.forward(LONG_PAUSE_NS)
        await self.asked(plane, 4, clock)
        await self.asked(plane, 4, clock)
        assert (tally.compared, tally.dropped) == (24, 5), "these were all, so the pause is short"
        assert session.runs == [32, 8, 8]

    @on_loop
    async def test_what_takes_long_is_asked_alone(self, monkeypatch: pytest.MonkeyPatch):
        clock, session = Clock(monkeypatch), FakeSession()
        other = served(session, 2, typical_ns=90_000)
        plane, rollout = house(section(shadow={"release": 2}), served(FakeSession(), 1), other)
        await self.asked(plane, 3, clock)
        assert session.runs == [2]
        assert (rollout.entry.tally.compared, rollout.entry.tally.dropped) == (1, 2)

    @on_loop
    async def test_what_is_large_is_asked_alone(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("edged.serving.shadow._TOGETHER_BYTES", 100)
        clock, session = Clock(monkeypatch), FakeSession()
        plane, rollout = shadowed(session)
        large = np.ones((8, 4), np.float32)
        ask(plane, inputs={"x": large})
        await turns(5)
        assert session.runs == [8], "there is nothing to wait for"
        await clock.forward(PAUSE_NS)
        ask(plane)
        await turns(5)
        ask(plane, inputs={"x": large})
        await turns(5)
        await clock.forward(PAUSE_NS)
        assert (rollout.entry.tally.compared, rollout.entry.tally.dropped) == (2, 1)
        assert session.runs == [8, 2]

    @on_loop
    async def test_on_a_busy_device_one_is_asked_right_behind_its_answer(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        clock, session = Clock(monkeypatch), FakeSession()
        plane, rollout = shadowed(session)
        slots = rollout.shadow._release.slots
        ask(plane)
        await turns(5)
        other = served(FakeSession(), 2)
        slots.hold(other)
        await clock.forward(PAUSE_NS)
        assert rollout.entry.tally.dropped == 1
        slots.give(other, 1)
        ask(plane)
        await turns(5)
        assert session.runs == [2]

    @on_loop
    async def test_what_is_run_at_once_is_counted(self, monkeypatch: pytest.MonkeyPatch):
        clock, session = Clock(monkeypatch), FakeSession()
        plane, rollout = shadowed(session)
        spec = TensorSpec("x", "float32", ("batch", 4))
        lone = plane.prepare(PrepareRequest("gate", (spec,))).bind(
            {"x": X.copy()}, {"y": np.empty_like(X)}, 2
        )
        tally = rollout.entry.tally
        for times in (1, 2):
            assert all(lone.run("uds:7") for _ in range(100))
            await turns(5)
            await clock.forward(LONG_PAUSE_NS)
            assert (tally.compared, tally.dropped) == (16 * times, 84 * times)
        assert (tally.differing, tally.side(1).answers, session.runs) == (0, 200, [32, 32])


class TestFaults:
    """A fault of the daemon's own leaves those out that it met, and never silences the shadow."""

    @pytest.mark.parametrize("name", ["agree", "together", "check_tensors"])
    @on_loop
    async def test_one_is_left_out_and_the_next_are_asked(
        self, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ):
        clock = Clock(monkeypatch)
        plane, rollout = shadowed(FakeSession())
        with monkeypatch.context() as broken:
            broken.setattr(f"edged.serving.shadow.{name}", _fail)
            found = await one_by_one(plane, 2, clock)
        found += await one_by_one(plane, 3, clock)
        tally = rollout.entry.tally
        lost = 0 if name == "together" else 2  # then each is asked for itself
        assert (tally.compared, tally.dropped, tally.failed_again) == (5 - lost, lost, 0)
        assert all(answers[0].error is None for answers in found)
        assert caplog.text.count("is left out") == 1, "said once"

    @on_loop
    async def test_memory_that_there_is_not_for_a_copy(self, monkeypatch: pytest.MonkeyPatch):
        class Large(np.ndarray):
            def copy(self, order: str = "C") -> np.ndarray:
                raise MemoryError(order)

        clock = Clock(monkeypatch)
        plane, rollout = shadowed(FakeSession())
        shadow, tally = rollout.shadow, rollout.entry.tally
        assert shadow is not None
        large = {"x": X.view(Large)}
        shadow.see(large, {"y": X}, 1)
        shadow.see({"x": X}, large, 1)
        assert (tally.compared, tally.dropped) == (0, 2)
        assert all(answers[0].error is None for answers in await one_by_one(plane, 3, clock))
        assert (tally.compared, tally.dropped) == (3, 2)


def _fail(*_arguments: object) -> None:
    raise ZeroDivisionError("a fault of the daemon's own")


class TestCost:
    @staticmethod
    def shadow(cost: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Shadow, Tally, list[int]]:
        now = [10**12]
        monkeypatch.setattr("edged.serving.shadow.time.monotonic_ns", lambda: now[0])
        config = section(shadow={"release": 2, "cost": cost}).shadow
        assert config is not None
        tally = Tally()
        return Shadow(served(FakeSession(), 2), config, tally), tally, now

    @on_loop
    async def test_runs_take_no_more_than_their_part_of_the_time(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        shadow, tally, now = self.shadow(10, monkeypatch)
        inputs = {"x": X}
        spent = 0
        for _ in range(1000):  # ten seconds, a request every ten milliseconds
            now[0] += 10_000_000
            kept = shadow.keep(inputs)
            if kept is not None:
                shadow.let_go(kept)
                shadow._left_ns -= 5_000_000
                spent += 5_000_000
        assert 0.09 < spent / 10**10 < 0.11
        assert tally.dropped == 1000 - spent // 5_000_000

    @on_loop
    async def test_a_pause_saves_up_next_to_nothing(self, monkeypatch: pytest.MonkeyPatch):
        shadow, _, now = self.shadow(10, monkeypatch)
        now[0] += 3600 * 10**9
        shadow.keep({"x": X})
        assert shadow._left_ns <= 2_000_000


@on_loop
async def test_one_that_sleeps_is_not_woken(monkeypatch: pytest.MonkeyPatch):
    clock = Clock(monkeypatch)
    asleep: ServedRelease = served(FakeSession(), 2)
    asleep.move(Event.EVICT)
    config: RolloutConfig = section(shadow={"release": 2, "cost": 100})
    plane, rollout = house(config, served(FakeSession(), 1), asleep)
    await one_by_one(plane, 3, clock)
    assert rollout.entry.tally.dropped == 3
    assert not asleep.is_called
