"""Runs of an asker who is alone: the same answer, counted the same, and never past another."""

from __future__ import annotations

import logging
import threading
import time

import numpy as np
import pytest

from edged.config.schema import BatchingConfig
from edged.errors import LayoutChangedError
from edged.messages import InferRequest, PrepareRequest
from edged.protocol import prepared_runs
from edged.protocol.lane import Lane
from edged.protocol.layout import BodyLayout
from edged.protocol.prepared_runs import RunHead
from edged.serving.dataplane import Dataplane, ServingTable
from edged.serving.lifecycle import Event
from edged.serving.lone import LoneRun
from edged.serving.prepared import PreparedCall
from edged.serving.release import ServedRelease
from edged.serving.router import Route
from edged.serving.scheduling.turn import Turn
from edged.specs import Duration
from edged.tensors import TensorSpec
from tests.fakes.clock import on_loop, turns
from tests.fakes.model import FakeSession
from tests.fakes.wire import only
from tests.serving.test_dataplane import Answers, door, served

X = np.ones((2, 4), np.float32)


class Alone:
    """A release, a call of it, and the memory that its runs are bound to."""

    def __init__(self, session: FakeSession | None = None, **release: object) -> None:
        self.session = session or FakeSession()
        self.release: ServedRelease = served(self.session, **release)
        self.plane: Dataplane = door(self.release)
        spec = TensorSpec("x", "float32", ("batch", 4))
        self.call: PreparedCall = self.plane.prepare(PrepareRequest("gate", (spec,)))
        self.x, self.y = X.copy(), np.zeros_like(X)

    def bind(self, rows: int = 2) -> LoneRun:
        run = self.call.bind({"x": self.x}, {"y": self.y}, rows)
        assert run is not None
        return run


@on_loop
async def test_it_answers_and_counts():
    alone = Alone()
    run = alone.bind()
    for factor in (1, 3):
        alone.x[...] = X * factor
        release, generation, run_ns, rows = run.run("uds:7")
        np.testing.assert_array_equal(alone.y, X * factor * 2)
        assert (release, generation, rows) == (1, 6, 2)
        assert run_ns >= 0
    counters = alone.release.counters
    assert (counters.requests, counters.batches, counters.inline_batches, counters.rows) == (
        2,
        2,
        2,
        4,
    )
    assert counters.transports == {"uds": 2}
    assert sum(counters.run_times) == sum(counters.queue_times) == sum(counters.durations) == 2
    assert counters.duration_ns == counters.run_ns
    assert counters.queue_ns == 0


@on_loop
async def test_rows_that_the_layout_fixes():
    """The question does not say them; the answer does, as by the usual way."""
    alone = Alone()
    spec = TensorSpec("x", "float32", (2, 4))
    call = alone.plane.prepare(PrepareRequest("gate", (spec,)))
    answers = Answers()
    call.submit({"x": X}, 0, None, "t", answers)
    await turns()
    outputs = BodyLayout(call.outputs)
    lane = Lane(BodyLayout((spec,)), outputs, 0, call)
    frame = b"".join(prepared_runs.encode_run(9, RunHead(1, 0, 0), BodyLayout((spec,)), {"x": X}))
    answer = prepared_runs.decode_answer(
        only([lane.ask(memoryview(frame), 9, "t")]), "gate", outputs
    )
    assert answer.batch_rows == answers[0].batch_rows == 2
    np.testing.assert_array_equal(answer.outputs["y"], answers[0].outputs["y"])


@on_loop
async def test_never_past_one_that_waits():
    alone = Alone()
    run = alone.bind()
    answers = Answers()
    alone.plane.submit(InferRequest("gate", {"x": X}), answers)
    assert run.run("uds") is None
    assert not alone.session.runs
    await turns()
    assert len(answers) == 1
    assert run.run("uds") is not None


@on_loop
async def test_on_the_loop_though_it_runs_on_a_thread_for_more_than_one():
    """Up to twice the threshold, and never beside a run of its own."""
    alone = Alone(typical_ns=399_999)
    assert not alone.release.is_inline
    run = alone.bind()
    assert run.run("uds") is not None
    assert alone.session.threads == {threading.get_ident()}
    alone.release.running = 1
    assert run.run("uds") is None
    assert Alone(typical_ns=400_000).bind().run("uds") is None


@on_loop
async def test_what_has_to_go_the_usual_way():
    def failing(_: object) -> dict:
        raise ValueError

    assert Alone(FakeSession(failing)).bind().run("uds") is None
    assert Alone(typical_ns=10_000_000).bind().run("uds") is None, "it runs on a thread"
    waits = BatchingConfig(max_queue_delay=Duration(2_000_000))
    assert Alone(batching=waits).bind().run("uds") is None, "it waits for company"
    assert Alone().bind(rows=65).run("uds") is None, "so many rows hold up the loop"
    draining = Alone()
    run = draining.bind()
    draining.plane.is_draining = True
    assert run.run("uds") is None


@on_loop
async def test_each_request_has_its_line_in_the_log(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.DEBUG, "edged.serving"):
        assert Alone().bind().run("uds") is None


@on_loop
async def test_for_several():
    """Two requests of one row each, run as one; each is counted as its own."""
    alone = Alone()
    run = alone.bind()
    now_ns = time.monotonic_ns()
    assert run.run_for([("http:7", now_ns - 5000), ("http:8", now_ns)]) > 0
    np.testing.assert_array_equal(alone.y, X * 2)
    counters = alone.release.counters
    assert (counters.batches, counters.inline_batches, counters.rows) == (1, 1, 2)
    assert (counters.requests, counters.transports) == (2, {"http": 2})
    assert counters.queue_ns >= 5000
    alone.release.backlog.items.append(object())
    assert run.run_for([("http:7", now_ns)] * 2) == 0
    alone.release.backlog.items.clear()
    alone.session.function = dict.popitem
    assert run.run_for([("http:7", now_ns)] * 2) == 0
    assert counters.requests == 2


@on_loop
async def test_what_runs_for_several():
    assert Alone().call.gathers == BatchingConfig().max_batch
    assert Alone(batching=BatchingConfig(max_batch=8)).call.gathers == 8
    assert Alone(batching=BatchingConfig(max_batch=1)).call.gathers == 1
    assert Alone(typical_ns=10_000_000).call.gathers == 0
    tapped = Alone()
    tapped.plane.tap({"gate": lambda *_: None})
    assert tapped.call.gathers == 0


@on_loop
async def test_no_longer_current():
    """After a swap, and after any release changed its state; then nothing is bound anew at first."""
    alone = Alone()
    run = alone.bind()
    assert run.is_current
    other = served(None)
    other.move(Event.LOAD)
    assert not run.is_current
    assert run.run("uds") is None
    assert alone.call.bind({"x": alone.x}, {"y": alone.y}, 2) is None
    answers = Answers()
    alone.call.submit({"x": X}, 2, None, "t", answers)
    await turns()
    again = alone.bind()
    assert again.run("uds") is not None
    table = ServingTable(9, {"gate": Route("gate", {1: alone.release})})
    alone.plane.swap(table)
    assert again.run("uds") is None
    assert not again.is_current


@on_loop
async def test_another_signature_is_refused_by_the_usual_way():
    alone = Alone()
    run = alone.bind()
    from tests.fakes.model import doubler

    narrow = served(FakeSession(), 2, manifest=doubler(release=2, shape=("batch", 3)))
    alone.plane.swap(ServingTable(7, {"gate": Route("gate", {2: narrow})}))
    assert run.run("uds") is None
    answers = Answers()
    alone.call.submit({"x": X}, 2, None, "t", answers)
    assert isinstance(answers[0].error, LayoutChangedError)


class TestAlone:
    """Turn.is_alone: after eight requests of one asker, until somebody else asks."""

    def ask(self, turn: Turn, asker: object) -> bool:
        """Ask, and stand in line when told to; the line is empty again by the next call."""
        if turn.is_alone(asker):
            return True
        turn._asked += 1
        return False

    def test_one_asker(self):
        turn, me = Turn(), object()
        assert [self.ask(turn, me) for _ in range(10)] == [False] * 8 + [True] * 2

    def test_two_askers_never(self):
        turn, askers = Turn(), (object(), object())
        assert not any(self.ask(turn, askers[index % 2]) for index in range(40))

    def test_another_way_in_counts_too(self):
        """MQTT and frames of other kinds only stand in line."""
        turn, me = Turn(), object()
        for _ in range(8):
            self.ask(turn, me)
        turn._asked += 1
        assert [self.ask(turn, me) for _ in range(10)] == [False] * 8 + [True] * 2

    def test_many_that_ask_as_one(self):
        """Of several in a turn only the first makes their release stand in line."""
        turn, me = Turn(), object()

        def ask_twice() -> list[bool]:
            found = [turn.is_alone(me, is_many=True)]
            if not found[0]:
                turn._line.append(served(None))
                turn._asked += 1
            found.append(turn.is_alone(me, is_many=True))
            turn._line.clear()
            return found

        assert [ask_twice() for _ in range(6)] == [[False] * 2] * 4 + [[True] * 2] * 2
        turn._asked += 1
        assert ask_twice() == [False] * 2
        assert not turn.is_alone(object(), is_many=True)

    def test_not_while_others_stand_in_line(self):
        turn, me = Turn(), object()
        for _ in range(8):
            self.ask(turn, me)
        turn._line.append(served(None))
        assert not turn.is_alone(me)
