"""Requests that share a run: each is answered once, in its own time, and alone gives up only itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from edged.errors import (
    CancelledError,
    DeadlineExceededError,
    ModelNotReadyError,
    RunError,
)
from edged.messages import InferResponse
from edged.serving.caching.cache import Kept
from edged.serving.caching.flight import Flight
from edged.serving.lifecycle import State
from edged.serving.scheduling.scheduler import Waiting
from tests.fakes.front import Asker, Front


class Air:
    """A flight that was begun, and what it told of itself."""

    def __init__(self, *askers: Asker, kept: Kept | None = None) -> None:
        self.front = Front()
        self.ended = self.asked_to_keep = 0
        self.kept = kept
        self.anew: list[Waiting] = []
        first, *others = askers
        self.flight = Flight(first.item, self.front, self._ended, self._keep, self._again)
        self.front.offer(self.flight.run)
        for asker in others:
            self.flight.join(asker.item)

    def _ended(self, flight: Flight) -> None:
        assert flight is self.flight
        self.ended += 1

    def _keep(self, outputs) -> Kept | None:
        assert "y" in outputs
        self.asked_to_keep += 1
        return self.kept

    def _again(self, items: Sequence[Waiting]) -> None:
        self.anew += items

    def land(self) -> None:
        self.front.run(self.flight.run)

    def fail(self, error) -> None:
        self.front.end(self.flight.run, error)


def test_all_get_the_answer_and_none_can_change_anothers():
    one, two, three = Asker(3), Asker(3), Asker(3)
    air = Air(one, two, three)
    air.land()
    assert (one.y, two.y, three.y) == (6, 6, 6)
    one.finals[0].outputs["y"][:] = 0
    with pytest.raises(ValueError, match="read-only"):
        two.finals[0].outputs["y"][:] = 0
    two.finals[0].outputs.clear()
    assert three.y == 6
    assert air.ended == 1


def test_one_alone_gets_the_runs_own_arrays():
    asker = Asker(3)
    air = Air(asker)
    outputs = {"y": np.ones((1, 4), np.float32)}
    air.flight.run.on_response(InferResponse("gate", 1, 1, outputs), True)
    assert asker.finals[0].outputs["y"] is outputs["y"]


def test_each_hears_of_its_own_time_and_generation():
    one, two = Asker(3, at_ns=100), Asker(3, at_ns=103, generation=2)
    late = Asker(3, at_ns=900)
    Air(one, two, late).land()
    answers = [asker.finals[0] for asker in (one, two, late)]
    assert [answer.queue_ns for answer in answers] == [5, 2, 0]
    assert [answer.generation for answer in answers] == [1, 2, 1]
    assert {(answer.run_ns, answer.batch_rows, answer.release) for answer in answers} == {(7, 3, 1)}


TAKES = {
    "nobody is in a hurry": (None, None, True),
    "who joins has time": (None, 5, False),
    "the run has a deadline, who joins has none": (5, None, True),
    "later": (5, 6, True),
    "the same": (5, 5, True),
    "earlier": (5, 4, False),
}


@pytest.mark.parametrize(("run", "own", "expected"), TAKES.values(), ids=TAKES)
def test_who_may_join(run: int | None, own: int | None, expected: bool):
    """A run that may be given up later than a request, or wait longer, is no run for it."""
    assert Air(Asker(3, run)).flight.takes(Asker(3, own).item) is expected


class TestWithdrawn:
    @pytest.mark.parametrize("who", [0, 1, 2])
    def test_one_of_several_goes_alone(self, who: int):
        askers = [Asker(3), Asker(3), Asker(3)]
        air = Air(*askers)
        assert askers[who].item.cancel()
        assert isinstance(askers[who].error, CancelledError)
        assert not askers[who].item.cancel()
        air.land()
        assert [asker.y for place, asker in enumerate(askers) if place != who] == [6, 6]
        assert len(askers[who].finals) == 1

    def test_the_last_takes_the_run_along(self):
        one, two = Asker(3), Asker(3)
        air = Air(one, two)
        assert one.item.cancel()
        assert two.item.cancel()
        assert not air.front.waiting
        assert isinstance(two.error, CancelledError)

    def test_the_last_waits_for_a_run_that_has_begun(self):
        asker = Asker(3)
        air = Air(asker)
        air.front.waiting.clear()
        assert not asker.item.cancel()
        air.front.waiting.append(air.flight.run)
        air.land()
        assert asker.y == 6

    def test_by_another_ones_answer(self):
        """Who is told first may withdraw others; they are being answered already."""
        one, two = Asker(3), Asker(3)
        air = Air(one, two)
        told = one.item.on_response

        def and_withdraw(response, final):
            told(response, final)
            assert not two.item.cancel()

        one.item.on_response = and_withdraw
        air.land()
        assert (one.y, two.y) == (6, 6)


class TestFailed:
    def test_a_run_that_fails_fails_for_all(self):
        one, two = Asker(3, 50), Asker(3, 60)
        air = Air(one, two)
        air.fail(RunError("no"))
        assert isinstance(one.error, RunError)
        assert isinstance(two.error, RunError)
        assert not air.anew

    @pytest.mark.parametrize("error", [DeadlineExceededError("late"), ModelNotReadyError("asleep")])
    def test_who_has_more_time_is_asked_for_anew(self, error):
        one, same, later, never = Asker(3, 50), Asker(3, 50), Asker(3, 60), Asker(3)
        air = Air(one, same, later, never)
        air.fail(error)
        assert one.error is same.error is error
        assert air.anew == [later.item, never.item]
        assert not later.finals
        assert not never.finals

    @pytest.mark.parametrize("state", [State.UNLOADED, State.FAILED])
    def test_nobody_is_asked_for_anew_where_nobody_would_answer(self, state: State):
        one, later = Asker(3, 50), Asker(3, 60)
        air = Air(one, later)
        air.front.state = state
        air.fail(ModelNotReadyError("its worker died"))
        assert isinstance(later.error, ModelNotReadyError)
        assert not air.anew

    def test_a_release_that_drains_still_answers_them(self):
        one, later = Asker(3, 50), Asker(3, 60)
        air = Air(one, later)
        air.front.state = State.DRAINING
        air.fail(DeadlineExceededError("late"))
        assert air.anew == [later.item]


class TestCounts:
    def test_each_request_is_counted_once(self):
        askers = [Asker(3, origin=f"uds:{n}") for n in range(4)]
        air = Air(*askers)
        askers[2].item.cancel()
        air.land()
        counters = air.front.counters
        assert (counters.requests, counters.failures) == (4, 1)

    def test_also_when_the_first_has_gone(self):
        one, two = Asker(3), Asker(3)
        air = Air(one, two)
        one.item.cancel()
        air.land()
        assert air.front.counters.requests == 2

    def test_and_when_it_failed(self):
        air = Air(Asker(3), Asker(3))
        air.fail(RunError("no"))
        assert (air.front.counters.requests, air.front.counters.failures) == (2, 2)


class TestParts:
    """Answers in parts: given on, and shared by those who were there from the first."""

    def part(self, air: Air, value: float, *, final: bool) -> None:
        outputs = {"y": np.full((1, 4), value, np.float32)}
        air.flight.run.on_response(InferResponse("gate", 1, 1, outputs), final)

    def test_all_parts_reach_all_and_nothing_is_kept(self):
        one, two = Asker(3), Asker(3)
        air = Air(one, two)
        self.part(air, 1, final=False)
        assert air.ended == 1, "nobody may join who missed a part"
        self.part(air, 2, final=True)
        assert not air.asked_to_keep
        for asker in (one, two):
            assert [float(p.outputs["y"][0, 0]) for p in asker.parts] == [1]
            assert asker.y == 2

    def test_who_has_had_a_part_is_not_asked_for_anew(self):
        one, later = Asker(3, 50), Asker(3, 60)
        air = Air(one, later)
        self.part(air, 1, final=False)
        air.fail(DeadlineExceededError("late"))
        assert isinstance(later.error, DeadlineExceededError)
        assert not air.anew


def test_what_a_callback_raises_is_its_own_trouble(caplog: pytest.LogCaptureFixture):
    one, two = Asker(3), Asker(3)
    one.item.on_response = lambda *_: 1 / 0
    Air(one, two).land()
    assert two.y == 6
    assert "a transport's callback raised for uds:1" in caplog.text
