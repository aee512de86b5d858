"""How outcomes become answers: counted once each, the right words, and told when the last is out."""

from __future__ import annotations

import pytest

from edged.errors import CancelledError, Code, DeadlineExceededError, RunError
from edged.messages import InferResponse
from edged.serving.answering import Answering
from edged.serving.executor import BatchResult, Outcome
from edged.serving.lifecycle import Event, ReleaseKey
from edged.serving.scheduling.forecast import Forecast
from edged.serving.scheduling.scheduler import Waiting
from tests.serving.scheduling.test_scheduler import wait


class Asked:
    """Who asked, and what came back."""

    def __init__(self, **options) -> None:
        self.item: Waiting = wait(since=0, **options)
        self.item.on_response = lambda response, final: self.got.append((response, final))
        self.got: list[tuple[InferResponse, bool]] = []


@pytest.fixture
def house() -> Answering:
    return Answering(ReleaseKey("gate", "d", ""), 2)


def test_a_batch(house: Answering):
    good, bad = Asked(), Asked()
    house.in_flight = 2
    outcomes = [Outcome(good.item, {"y": 1}, None), Outcome(bad.item, None, RunError("no"))]
    house.deliver(BatchResult(outcomes, started_ns=70, run_ns=5, rows=9))
    ((answer, final),) = good.got
    assert final
    assert (answer.model, answer.release, answer.outputs) == ("gate", 2, {"y": 1})
    assert (answer.queue_ns, answer.run_ns, answer.batch_rows) == (70, 5, 9)
    assert bad.got[0][0].error.message == "no"
    assert (house.counters.requests, house.counters.failures, house.in_flight) == (2, 1, 0)
    assert (house.counters.batches, house.counters.rows) == (1, 9)


def test_a_batch_of_which_nothing_ran_is_none(house: Answering):
    late = Asked()
    house.in_flight = 1
    house.deliver(BatchResult([Outcome(late.item, None, DeadlineExceededError("x"))], 1, 0, 0))
    assert (house.counters.batches, house.counters.requests) == (0, 1)


def test_whose_time_is_over_and_whose_is_too_short_hear_which(house: Answering):
    over, short = Asked(deadline=90), Asked(deadline=120)
    house.in_flight = 2
    house.expire([over.item, short.item], 100)
    assert "passed while waiting" in over.got[0][0].error.message
    assert "too near for a run" in short.got[0][0].error.message
    assert house.counters.failed == {Code.DEADLINE_EXCEEDED: 2}


def test_who_was_late_though_there_was_time_for_a_run_is_remembered(house: Answering):
    house.forecast = Forecast(((1, 50),))
    asked = Asked(deadline=90), Asked(deadline=40)
    house.in_flight = 2
    before = house.forecast.slack
    house.expire([asked[1].item], 100)
    assert house.forecast.slack == before, "it never had time for one"
    house.regret([asked[0].item], 90, 100)
    assert house.forecast.slack == before, "it was in time"
    house.expire([asked[0].item], 100)
    assert house.forecast.slack > before


def test_the_last_answer_of_one_that_drains_is_told_after_it_was_given(house: Answering):
    order: list[str] = []
    asked = Asked()
    asked.item.on_response = lambda *_: order.append("answer")
    house.on_idle = lambda one: order.append(f"idle {one.number}")
    for event in (Event.LOAD, Event.LOADED, Event.WARMED, Event.RETIRE):
        house.move(event)
    house.in_flight = 1
    house.fail(asked.item, CancelledError("withdrawn"))
    assert order == ["answer", "idle 2"]
