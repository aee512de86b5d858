"""Large requests in parts: their rows come back whole, in order, once, whatever becomes of a part."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.config.schema import BatchingConfig
from edged.errors import (
    CancelledError,
    DeadlineExceededError,
    DrainingError,
    RunError,
    TooLargeError,
)
from edged.messages import InferRequest
from edged.serving import parts
from edged.serving.parts import Whole, can_cut, part_rows
from edged.serving.release import ServedRelease
from edged.serving.scheduling.forecast import Forecast
from edged.serving.scheduling.scheduler import Waiting
from tests.fakes.clock import Clock, on_loop, turns, until
from tests.fakes.manifests import make_manifest
from tests.fakes.model import FakeSession, doubler
from tests.serving.test_release import MS, THREADED_NS, Ask, config, offer, serve

FOUR = config(batching=BatchingConfig(max_batch=4, instances=1))
FREE = make_manifest([("x", "float32", ("batch", 4))], [("y", "float32", ("batch", "n"))])


@pytest.mark.parametrize(
    ("batch", "most", "costs", "rows"),
    [
        (4, 4, ((1, MS),), 4),
        (1, 32, ((1, MS),), 8),  # as many as take 10 ms
        (1, 32, ((1, 4 * MS),), 2),
        (1, 32, ((1, 40 * MS),), 1),
        (2, 32, ((1, 40 * MS),), 2),  # never less than pays
        (1, 6, ((1, MS),), 4),
        (8, 32, (), 32),
    ],
)
def test_part_rows(batch: int, most: int, costs: tuple, rows: int):
    assert part_rows(batch, most, Forecast(costs)) == rows


@pytest.mark.parametrize(
    ("manifest", "can"),
    [(doubler(), True), (doubler(shape=(8, 4)), False), (FREE, False)],
)
def test_only_rows_of_one_shape_run_apart(manifest, can: bool):
    assert can_cut(manifest) is can


@given(st.integers(1, 50), st.integers(1, 9))
def test_the_parts_are_the_whole(rows: int, most: int):
    x = np.arange(rows * 2).reshape(rows, 2)
    request = InferRequest("m", {"x": x}, 3, ("y",), 99, "uds:1")
    item = Waiting(request, lambda *_: None, rows, ((2,),), x.nbytes, 7, 5)
    parts = Whole(item, None).cut(most)
    np.testing.assert_array_equal(np.concatenate([p.request.inputs["x"] for p in parts]), x)
    assert sum(part.rows for part in parts) == rows
    assert max(part.rows for part in parts) <= most
    for part in parts:
        assert np.shares_memory(part.request.inputs["x"], x)
        assert (part.layout, part.enqueued_ns, part.generation) == (((2,),), 7, 5)
        asked = part.request
        assert (asked.release, asked.outputs, asked.deadline_ns) == (3, ("y",), 99)


class Busy:
    """A release that runs one row until told."""

    def __init__(self, clock: Clock, settings=FOUR) -> None:
        self.session = FakeSession()
        self.session.gate = threading.Event()
        self.release: ServedRelease = serve(self.session, THREADED_NS, settings)
        self.first = Ask()
        offer(self.release, clock, self.first)

    async def begun(self, runs: int = 1) -> None:
        await until(lambda: len(self.session.runs) == runs)

    async def end(self) -> None:
        self.session.gate.set()
        await until(lambda: self.release.in_flight == 0)
        self.release.close()


@on_loop
async def test_it_is_one_request_with_one_answer(monkeypatch: pytest.MonkeyPatch):
    clock, session = Clock(monkeypatch), FakeSession()
    release = serve(session, settings=FOUR)
    large, small = Ask(10, outputs=("y",)), Ask(2)
    offer(release, clock, large, small)
    assert release.in_flight == 2
    await turns(9)
    assert session.runs == [4, 4, 4]
    large.check()
    small.check()
    assert (large.answer.release, large.answer.generation, large.answer.batch_rows) == (1, 5, 4)
    counters = release.counters
    assert (counters.requests, counters.rows, counters.batches, counters.failures) == (2, 12, 3, 0)
    assert release.in_flight == 0
    release.close()


@on_loop
async def test_others_have_their_turn_between_its_parts(monkeypatch: pytest.MonkeyPatch):
    clock = Clock(monkeypatch)
    busy = Busy(clock)
    large = Ask(12)
    offer(busy.release, clock, large)
    await busy.begun()
    urgent = Ask(4, clock.now_ns + 10**9)
    offer(busy.release, clock, urgent)
    done: list[str] = []
    urgent.then, large.then = lambda: done.append("urgent"), lambda: done.append("large")
    await busy.end()
    assert done == ["urgent", "large"]
    large.check()


@on_loop
async def test_a_part_that_fails_is_the_end_of_all(monkeypatch: pytest.MonkeyPatch):
    clock = Clock(monkeypatch)
    busy = Busy(clock)
    await busy.begun()
    large, small = Ask(16), Ask()

    def fail_large(inputs):
        if len(inputs["x"]) == 4:
            raise RunError("no")
        return {"y": inputs["x"] * 2}

    busy.session.function = fail_large
    offer(busy.release, clock, large, small)
    await busy.end()
    assert large.answer.error.message == "no"
    small.check()
    assert busy.session.runs == [1, 4, 4, 1], "the next one had begun, the others did not run"
    assert (busy.release.counters.requests, busy.release.counters.failures) == (3, 1)


@on_loop
async def test_its_deadline_is_one(monkeypatch: pytest.MonkeyPatch):
    clock = Clock(monkeypatch)
    busy = Busy(clock)
    await busy.begun()
    late = Ask(12, clock.now_ns + 5 * MS)
    offer(busy.release, clock, late)
    await clock.forward(6 * MS)
    assert isinstance(late.answer.error, DeadlineExceededError)
    assert busy.release.backlog.rows == 0
    await busy.end()
    assert busy.session.runs == [1]


@on_loop
async def test_withdrawn_as_a_whole(monkeypatch: pytest.MonkeyPatch):
    clock = Clock(monkeypatch)
    busy = Busy(clock)
    await busy.begun()
    asks = [Ask(12), Ask(12)]
    items = [ask.waiting(clock.now_ns) for ask in asks]
    for item in items:
        busy.release.offer(item)
    assert items[1].cancel()
    assert isinstance(asks[1].answer.error, CancelledError)
    assert not items[1].cancel()
    assert busy.release.backlog.rows == 12
    busy.session.gate.set()
    await busy.begun(2)
    assert not items[0].cancel()
    assert busy.release.backlog.rows == 0
    await busy.end()
    assert isinstance(asks[0].answer.error, CancelledError)
    assert busy.session.runs == [1, 4], "nobody wants the answer: what waits does not run"
    assert not items[0].cancel()
    assert busy.release.in_flight == 0


@on_loop
async def test_more_parts_than_are_made(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(parts, "MOST_PARTS", 10)
    release = serve(FakeSession(), settings=config(batching=BatchingConfig(max_batch=4)))
    most = 10 * release._part_rows
    with pytest.raises(TooLargeError, match=f"{most} can be asked"):
        release.offer(Ask(most + 1).waiting(time.monotonic_ns()))
    assert (release.in_flight, release.backlog.rows) == (0, 0)
    large = Ask(most)
    release.offer(large.waiting(time.monotonic_ns()))
    await until(lambda: large.answers)
    large.check()
    release.close()


@on_loop
async def test_closed_over_its_parts(monkeypatch: pytest.MonkeyPatch):
    clock = Clock(monkeypatch)
    busy = Busy(clock)
    await busy.begun()
    large = Ask(12)
    offer(busy.release, clock, large)
    busy.release.close()
    assert isinstance(large.answer.error, DrainingError)
    busy.session.gate.set()
    await until(lambda: busy.release.in_flight == 0)


@on_loop
async def test_the_queues_bounds_are_of_the_whole():
    release = serve(FakeSession(), settings=config(batching=BatchingConfig(max_batch=4)))
    large = Ask(5000)
    release.offer(large.waiting(time.monotonic_ns()))
    await until(lambda: large.answers)
    large.check()
    release.close()


@on_loop
async def test_what_cannot_be_cut_runs_as_it_is(monkeypatch: pytest.MonkeyPatch):
    clock, session = Clock(monkeypatch), FakeSession()
    release = serve(session, settings=FOUR, manifest=FREE)
    ask = Ask(10)
    offer(release, clock, ask)
    await until(lambda: ask.answers)
    assert session.runs == [10]
    release.close()


@on_loop
async def test_passed_on_to_another_release_it_is_whole_again(monkeypatch: pytest.MonkeyPatch):
    clock = Clock(monkeypatch)
    busy = Busy(clock)
    await busy.begun()
    large, small = Ask(12), Ask(2)
    items = [ask.waiting(clock.now_ns) for ask in (large, small)]
    for item in items:
        busy.release.offer(item)
    session = FakeSession()
    other = serve(session, settings=config(batching=BatchingConfig(max_batch=6)))
    busy.release.hold()
    busy.session.gate.set()
    await until(lambda: busy.release.running == 0)
    busy.release.lay_down()
    busy.release.pass_on(other)
    assert (busy.release.in_flight, other.in_flight) == (0, 2)
    await until(lambda: large.answers and small.answers)
    large.check()
    small.check()
    assert session.runs == [6, 6, 2]
    assert other.counters.requests == 2
    busy.release.close()
    other.close()
