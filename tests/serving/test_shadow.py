"""What is asked again: afterwards, within its cost, and never in anybody's way."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from edged.config.rollout import RolloutConfig
from edged.errors import RunError
from edged.messages import InferRequest, LentInputs
from edged.rollout.tally import Tally
from edged.serving.dataplane import Dataplane
from edged.serving.lifecycle import Event
from edged.serving.release import ServedRelease
from edged.serving.rollout import Rollout
from edged.serving.shadow import Shadow
from tests.fakes.clock import on_loop, turns, until
from tests.fakes.model import FakeSession
from tests.serving.test_dataplane import Answers, ask, served
from tests.serving.test_rollout import house, section

X = np.ones((2, 4), np.float32)


def shadowed(session: FakeSession, **fields: object) -> tuple[Dataplane, Rollout]:
    config = section(shadow={"release": 2, "cost": 100, **fields})
    return house(config, served(FakeSession(), 1), served(session, 2))


async def one_by_one(plane: Dataplane, count: int) -> list[Answers]:
    found = []
    for _ in range(count):
        found.append(ask(plane))
        await turns(5)
    return found


@on_loop
async def test_answers_that_agree_and_answers_that_do_not():
    session = FakeSession()
    plane, rollout = shadowed(session)
    found = await one_by_one(plane, 5)
    session.function = lambda inputs: {"y": inputs["x"] * 2.5}
    found += await one_by_one(plane, 3)
    tally = rollout.entry.tally
    assert {answers[0].release for answers in found} == {1}
    assert (tally.compared, tally.differing, tally.dropped) == (8, 3, 0)
    assert tally.side(1).answers == 8
    assert "2" not in tally.sides


@on_loop
async def test_the_caller_has_its_answer_first():
    seen: list[str] = []

    def again(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        seen.append("again")
        return {"y": inputs["x"] * 2}

    plane, _ = shadowed(FakeSession(again))
    plane.submit(InferRequest("gate", {"x": X}), lambda _r, _f: seen.append("answered"))
    await turns(5)
    assert seen == ["answered", "again"]


@on_loop
async def test_memory_that_is_the_callers_again_is_not_looked_at():
    plane, rollout = shadowed(FakeSession())
    mine = X.copy()

    def overwrite(_response: object, _final: bool) -> None:
        mine[:] = 9

    plane.submit(InferRequest("gate", LentInputs({"x": mine})), overwrite)
    await turns(5)
    assert (rollout.entry.tally.compared, rollout.entry.tally.differing) == (1, 0)


@on_loop
async def test_a_part_of_the_requests():
    plane, rollout = shadowed(FakeSession(), percent=25)
    await one_by_one(plane, 40)
    assert rollout.entry.tally.compared == 10


@on_loop
async def test_one_that_fails():
    def fail(_inputs: object) -> dict[str, np.ndarray]:
        raise RunError("broken")

    plane, rollout = shadowed(FakeSession(fail))
    found = await one_by_one(plane, 3)
    assert all(answers[0].error is None for answers in found)
    assert (rollout.entry.tally.compared, rollout.entry.tally.failed_again) == (0, 3)


@on_loop
async def test_what_failed_first_is_not_asked_again():
    def fail(_inputs: object) -> dict[str, np.ndarray]:
        raise RunError("broken")

    session = FakeSession()
    config = section(shadow={"release": 2, "cost": 100})
    plane, rollout = house(config, served(FakeSession(fail), 1), served(session, 2))
    await one_by_one(plane, 9)
    assert not session.runs
    assert rollout.entry.tally.compared == rollout.entry.tally.dropped == 0


@on_loop
async def test_while_one_is_asked_again_others_are_not():
    session, gate = FakeSession(), threading.Event()
    session.gate = gate
    stable, slow = served(FakeSession(), 1), served(session, 2, typical_ns=10**9)
    plane, rollout = house(section(shadow={"release": 2, "cost": 100}), stable, slow)
    try:
        found = await one_by_one(plane, 10)
        assert all(len(answers) == 1 for answers in found), "nobody waits for it"
        assert rollout.entry.tally.dropped == 9
    finally:
        gate.set()
    await until(lambda: rollout.entry.tally.compared == 1)
    assert session.runs == [2]


@on_loop
async def test_nothing_is_asked_again_while_the_device_is_busy():
    session, gate = FakeSession(), threading.Event()
    busy = FakeSession()
    busy.gate = gate
    stable, other = served(FakeSession(), 1), served(busy, 2, typical_ns=10**9)
    plane, rollout = house(section(shadow={"release": 2, "cost": 100}), stable, other)
    try:
        ask(plane, release=2)
        await turns(3)
        await one_by_one(plane, 3)
        assert rollout.entry.tally.dropped == 3
    finally:
        gate.set()
    await until(lambda: not other.in_flight)
    assert not session.runs


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
                shadow.let_go()
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
async def test_one_that_sleeps_is_not_woken():
    asleep: ServedRelease = served(FakeSession(), 2)
    asleep.move(Event.EVICT)
    config: RolloutConfig = section(shadow={"release": 2, "cost": 100})
    plane, rollout = house(config, served(FakeSession(), 1), asleep)
    await one_by_one(plane, 3)
    assert rollout.entry.tally.dropped == 3
    assert not asleep.is_called
