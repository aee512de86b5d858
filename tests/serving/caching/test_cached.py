"""What stands before a release: hits, shared runs, other releases, and nothing where there is none."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from edged.config.cache import CacheConfig
from edged.errors import (
    CancelledError,
    DeadlineExceededError,
    DrainingError,
    ModelNotReadyError,
    QueueFullError,
    RunError,
)
from edged.flow import Flow
from edged.messages import LentInputs, PrepareRequest, StreamRequest
from edged.serving.caching import cached as module
from edged.serving.caching.cache import ResponseCache
from edged.serving.caching.cached import Cached
from edged.serving.caching.caches import Caches
from edged.serving.lifecycle import Event, State
from edged.serving.release import ServedRelease
from edged.specs import Size
from edged.tensors import TensorSpec
from tests.fakes.clock import on_loop, turns, until
from tests.fakes.front import Asker, Front
from tests.fakes.model import FakeSession
from tests.serving.test_dataplane import Answers, X, ask, door, served

MIB = CacheConfig(size=Size(1 << 20))


class Later:
    """Does jobs when a test says so."""

    def __init__(self) -> None:
        self.jobs: list[tuple[Callable[[], Any], Callable[[Any], None]]] = []

    def __call__(self, job: Callable[[], Any], on_done: Callable[[Any], None]) -> None:
        self.jobs.append((job, on_done))

    def do(self) -> None:
        jobs, self.jobs = self.jobs, []
        for job, on_done in jobs:
            on_done(job())


class House:
    """A front with a cache before it."""

    def __init__(self, *, is_sole: bool = False, shared: bool = True, size: int = 1 << 20) -> None:
        self.front, self.later = Front(), Later()
        self.store = ResponseCache(size)
        config = CacheConfig(size=Size(size), shared=shared)
        self.cached = Cached(self.front, self.store, config, self.later, is_sole=is_sole)

    def ask(self, value: float, *args, **fields) -> Asker:
        asker = Asker(value, *args, **fields)
        ticket = self.cached.ask(asker.item)
        assert (ticket is None) == bool(asker.finals)
        return asker

    def run_all(self) -> None:
        while self.front.waiting:
            self.front.run(self.front.waiting[0])

    @property
    def counts(self) -> tuple[int, int, int]:
        return self.store.hits, self.store.joined, self.store.misses


class TestHits:
    def test_the_second_one_needs_no_run(self):
        house = House()
        first = house.ask(3)
        house.run_all()
        second, other = house.ask(3, generation=8), house.ask(4)
        assert (first.y, second.y) == (6, 6)
        assert len(house.front.waiting) == 1
        house.run_all()
        assert other.y == 8
        assert house.counts == (1, 0, 2)
        answer = second.finals[0]
        assert (answer.model, answer.release, answer.generation) == ("gate", 1, 8)
        assert (answer.queue_ns, answer.run_ns, answer.batch_rows) == (0, 0, 0)

    def test_nobody_can_change_what_others_get(self):
        house = House()
        first = house.ask(3)
        house.run_all()
        first.finals[0].outputs["y"][:] = 0
        first.item.request.inputs["x"][:] = 9
        second = house.ask(3)
        with pytest.raises(ValueError, match="read-only"):
            second.finals[0].outputs["y"][:] = 0
        assert house.ask(3).y == 6

    def test_what_its_asker_may_still_write_to_is_copied_before_it_is_hashed(self):
        house = House()
        first = Asker(3)
        lent = LentInputs(first.item.request.inputs)
        first.item.request.inputs = lent
        house.cached.ask(first.item)
        lent["x"][:] = 9
        house.run_all()
        assert first.y == 6
        assert house.ask(3).y == 6

    def test_counted(self):
        house = House()
        house.ask(3)
        house.run_all()
        house.ask(3, origin="mqtt:gate")
        counters = house.front.counters
        assert (counters.requests, counters.cached) == (2, 1)
        assert counters.transports == {"uds": 1, "mqtt": 1}

    def test_errors_are_not_kept(self):
        house = House()
        one = house.ask(3)
        house.front.end(house.front.waiting[0], RunError("no"))
        assert isinstance(one.error, RunError)
        two = house.ask(3)
        house.run_all()
        assert two.y == 6

    def test_a_refusal_leaves_nothing_behind(self):
        house = House()
        house.front.is_full = True
        with pytest.raises(QueueFullError):
            house.ask(3)
        house.front.is_full = False
        two = house.ask(3)
        house.run_all()
        assert two.y == 6

    def test_a_long_answer_is_given_and_not_kept(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(module, "_ANSWER_BYTES", 15)
        house = House()
        one, two = house.ask(3), house.ask(3)
        house.run_all()
        assert (one.y, two.y, len(house.store)) == (6, 6, 0)


class TestShared:
    def test_equal_requests_share_a_run(self):
        house = House()
        askers = [house.ask(3), house.ask(3), house.ask(4), house.ask(3)]
        assert len(house.front.waiting) == 2
        house.run_all()
        assert [asker.y for asker in askers] == [6, 6, 8, 6]
        assert house.counts == (0, 2, 2)

    def test_the_first_one_goes_and_the_others_have_their_answer(self):
        house = House()
        first, second = house.ask(3), house.ask(3)
        assert first.item.cancel()
        house.run_all()
        assert isinstance(first.error, CancelledError)
        assert second.y == 6
        assert house.ask(3).y == 6

    def test_one_that_is_due_earlier_has_its_own_run(self):
        house = House()
        first, second, third = house.ask(3), house.ask(3, 50), house.ask(3, 60)
        assert [run.request.deadline_ns for run in house.front.waiting] == [None, 50]
        house.front.run(house.front.waiting[1])
        assert (second.y, third.y) == (6, 6)
        assert not first.finals
        house.run_all()
        assert first.y == 6

    def test_when_the_runs_time_is_over_the_others_go_on(self):
        house = House()
        one, two, three = house.ask(3, 50), house.ask(3), house.ask(3, 60)
        house.front.end(house.front.waiting[0], DeadlineExceededError("late"))
        assert isinstance(one.error, DeadlineExceededError)
        (run,) = house.front.waiting
        assert run.request.deadline_ns == 60, "the earliest leads"
        house.run_all()
        assert (two.y, three.y) == (6, 6)

    def test_where_they_cannot_they_are_told(self):
        house = House()
        house.ask(3, 50)
        two = house.ask(3, 60)
        house.front.is_full = True
        house.front.end(house.front.waiting[0], DeadlineExceededError("late"))
        assert isinstance(two.error, QueueFullError)
        assert house.front.counters.requests == 2


class TestReleases:
    def test_another_session_gives_its_own_answers(self):
        house = House()
        house.ask(3)
        house.run_all()
        house.front.become(5)
        asker = house.ask(3)
        assert len(house.store) == 0, "what the old one gave is forgotten"
        house.run_all()
        assert asker.y == 15
        assert house.ask(3).y == 15

    def test_a_run_that_was_asked_of_another_session_is_not_kept(self):
        """Asked while the model slept, answered when it was back on another runtime."""
        house = House()
        asker = house.ask(3)
        house.front.become(5)
        house.run_all()
        assert asker.y == 15
        assert len(house.store) == 0

    def test_and_nobody_joins_it(self):
        house = House()
        house.ask(3)
        house.front.become(5)
        house.ask(3)
        assert len(house.front.waiting) == 2

    def test_what_moves_elsewhere_changes_nothing(self):
        house = House()
        house.ask(3)
        house.run_all()
        house.front.become(2)
        assert house.ask(3).y == 6

    def test_one_that_has_left_keeps_nothing(self):
        """Its requests may be answered by the release that replaces it."""
        house = House()
        house.ask(4)
        house.run_all()
        asker = house.ask(3)
        house.cached.leave()
        house.front.factor = 7  # whoever answers, it is not this one
        house.run_all()
        assert asker.y == 21
        assert len(house.store) == 0

    def test_a_pipeline_that_takes_over(self):
        old, new = House(is_sole=True), House(is_sole=True)
        new.cached.store = old.store
        new.front.factor = 5
        old.ask(3)
        old.run_all()
        late = old.ask(4)
        assert len(old.store) == 1, "the new one is only made, and may never be asked"
        asker = new.ask(3)
        new.run_all()
        old.run_all()
        assert (asker.y, late.y) == (15, 8)
        assert len(old.store) == 1, "only what the new one gave"


class TestPeers:
    def test_each_has_its_own(self):
        house = House(shared=False)
        house.ask(3)
        house.run_all()
        house.ask(3, origin="uds:2")
        assert len(house.front.waiting) == 1
        assert house.ask(3).finals

    def test_nobody_waits_for_anothers_run(self):
        house = House(shared=False)
        house.ask(3)
        house.ask(3, origin="uds:2")
        assert len(house.front.waiting) == 2

    def test_a_pipeline_does_not_say_who_asked_it(self):
        house = House(shared=False)
        for _ in range(2):
            house.cached.ask(Asker(3, origin="pipeline:p").item)
        assert len(house.front.waiting) == 2
        house.run_all()
        assert len(house.store) == 0


def test_a_request_for_several_answers_goes_its_own_way():
    """It shares no run: each says by itself how many answers it takes now."""
    house = House()
    house.ask(3)
    house.run_all()
    streamed = Asker(3)
    plain = streamed.item.request
    streamed.item.request = StreamRequest("gate", plain.inputs, flow=Flow(1, 10))
    assert house.cached.ask(streamed.item) is streamed.item
    assert house.front.waiting == [streamed.item]
    other = Asker(3)
    assert house.cached.ask(other.item) is None


class TestLongInputs:
    LONG = module._LOOP_BYTES + 1

    def test_are_hashed_elsewhere(self):
        house = House()
        first = house.ask(3, size=self.LONG)
        assert not house.front.waiting
        assert house.front.stays == 1, "the release stays meanwhile"
        house.later.do()
        assert house.front.stays == 0
        house.run_all()
        second = house.ask(3, size=self.LONG)
        house.later.do()
        assert (first.y, second.y) == (6, 6)
        assert house.counts == (1, 0, 1)

    def test_withdrawn_meanwhile(self):
        house = House()
        asker = house.ask(3, size=self.LONG)
        assert asker.item.cancel()
        assert not asker.item.cancel()
        house.later.do()
        assert isinstance(asker.error, CancelledError)
        assert not house.front.waiting
        assert house.front.stays == 0

    def test_too_late(self):
        house = House()
        asker = house.ask(3, 1, size=self.LONG)
        house.later.do()
        assert isinstance(asker.error, DeadlineExceededError)

    @pytest.mark.parametrize("state", [State.FAILED, State.UNLOADED])
    def test_the_release_is_gone(self, state: State):
        house = House()
        asker = house.ask(3, size=self.LONG)
        house.front.state = state
        house.later.do()
        assert isinstance(asker.error, ModelNotReadyError)
        assert not house.front.waiting

    def test_there_is_no_room(self):
        house = House()
        asker = house.ask(3, size=self.LONG)
        house.front.is_full = True
        house.later.do()
        assert isinstance(asker.error, QueueFullError)

    def test_another_session_meanwhile(self):
        house = House()
        asker = house.ask(3, size=self.LONG)
        house.front.become(5)
        house.later.do()
        house.run_all()
        assert asker.y == 15
        assert len(house.store) == 0

    def test_more_than_can_be_hashed_goes_without(self):
        house = House()
        for _ in range(3):
            house.cached.ask(Asker(3, size=module._HASHING_BYTES // 2).item)
        assert len(house.later.jobs) == 2
        assert len(house.front.waiting) == 1
        house.later.do()
        assert house.cached._hashing_bytes == 0


def behind(release: ServedRelease, do=None, section: CacheConfig = MIB) -> Caches:
    """Let a real release have a cache."""
    caches = Caches(do or Later())
    release.config = type(release.config)(bundle="b", cache=section)
    caches.serve(release)
    return caches


class TestRealRelease:
    @on_loop
    async def test_through_the_door_and_as_a_prepared_call(self):
        session = FakeSession()
        release = served(session)
        plane = door(release)
        behind(release)
        first, second = ask(plane), ask(plane)
        call = plane.prepare(PrepareRequest("gate", (TensorSpec("x", "float32", ("batch", 4)),)))
        third = Answers()
        assert call.submit({"x": X}, 2, None, "t", third) is not None
        await turns()
        assert session.runs == [2]
        for answers in (first, second, third):
            np.testing.assert_array_equal(answers[0].outputs["y"], X * 2)
        fourth = Answers()
        assert call.submit({"x": X}, 2, None, "t", fourth) is None
        np.testing.assert_array_equal(fourth[0].outputs["y"], X * 2)
        assert session.runs == [2]
        assert release.in_flight == 0

    @on_loop
    async def test_a_lone_caller_is_not_led_past_it(self):
        release = served(FakeSession())
        plane = door(release)
        call = plane.prepare(PrepareRequest("gate", (TensorSpec("x", "float32", ("batch", 4)),)))
        out = {"y": np.empty_like(X)}
        assert call.bind({"x": X}, out, 2).run("t") is not None
        behind(release)
        assert call.bind({"x": X}, out, 2).run("t") is None
        assert not release.is_free

    @on_loop
    async def test_without_one_there_is_nothing_in_the_way(self):
        release = served(FakeSession())
        assert release.ask == release.offer
        assert release.is_free
        caches = behind(release)
        release.config = type(release.config)(bundle="b")
        caches.serve(release)
        assert release.cache is None
        assert release.ask == release.offer
        assert release.is_free

    @on_loop
    async def test_the_outputs_that_were_asked_for(self):
        session = FakeSession(lambda inputs: {"y": inputs["x"] * 2, "z": inputs["x"]})
        release = served(session)
        plane = door(release)
        release.outputs = (*release.outputs, TensorSpec("z", "float32", ("batch", 4)))
        behind(release)
        for outputs, names in (((), {"y", "z"}), (("z",), {"z"})):
            for _ in range(2):
                answers = ask(plane, outputs=outputs)
                await turns()
                assert answers[0].outputs.keys() == names
        assert len(session.runs) == 2

    @on_loop
    async def test_rows_of_a_batch_are_kept_without_the_batch(self):
        session = FakeSession()
        release = served(session)
        plane = door(release)
        behind(release)
        asked = [ask(plane, inputs={"x": X * n}) for n in (1, 2, 3)]
        await turns()
        assert session.runs == [6]
        again = [ask(plane, inputs={"x": X * n}) for n in (1, 2, 3)]
        for n, (one, two) in enumerate(zip(asked, again, strict=True), 1):
            np.testing.assert_array_equal(one[0].outputs["y"], X * n * 2)
            np.testing.assert_array_equal(two[0].outputs["y"], X * n * 2)
            array = two[0].outputs["y"]
            while isinstance(array.base, np.ndarray):
                array = array.base
            assert isinstance(array.base, bytes)
            assert len(array.base) == X.nbytes

    @on_loop
    async def test_drained_without_losing_who_waits(self):
        """In flight when the release was replaced: the run and all who wait for it are answered."""
        session = FakeSession()
        session.gate = threading.Event()
        release = served(session, typical_ns=10**9)
        plane = door(release)
        behind(release)
        first, second = ask(plane), ask(plane)
        idle: list[object] = []
        release.on_idle = idle.append
        release.move(Event.RETIRE)
        assert release.in_flight == 1
        session.gate.set()
        while not idle:
            await turns()
        assert first[0].error is second[0].error is None

    @on_loop
    async def test_a_release_that_closes_answers_all(self):
        release = served(None)
        plane_release = served(FakeSession(), typical_ns=10**9)
        session = plane_release.session
        session.gate = threading.Event()
        plane = door(plane_release)
        behind(plane_release)
        running = ask(plane, inputs={"x": X * 9})
        await turns()
        first, second = ask(plane), ask(plane)
        plane_release.close()
        assert isinstance(first.error, DrainingError)
        assert isinstance(second.error, DrainingError)
        assert not running
        session.gate.set()
        # A run that outlives its loop is told on its thread, in the middle of the next test.
        await until(lambda: running)
        assert release.cache is None

    @on_loop
    async def test_what_sleeps_still_gives_what_it_gave(self):
        release = served(FakeSession())
        plane = door(release)
        behind(release)
        ask(plane)
        await turns()
        asked_before = release.asked
        release.lay_down()
        release.move(Event.EVICT)
        np.testing.assert_array_equal(ask(plane)[0].outputs["y"], X * 2)
        assert not release.is_called, "nobody needed the model for that"
        assert release.asked == asked_before, "and it is no reason to have it in memory"


class Machine(RuleBasedStateMachine):
    """Requests, deadlines, cancellations, failures and other releases in any order."""

    askers = Bundle("askers")

    @initialize(size=st.sampled_from([0, 2000, 4000, 1 << 20]))
    def start(self, size: int) -> None:
        self.house = House(size=size)
        self.all: list[Asker] = []
        self.now = 0

    @rule(
        target=askers,
        value=st.integers(1, 3),
        left=st.sampled_from([None, 5, 10]),
        size=st.sampled_from([16, TestLongInputs.LONG]),
    )
    def ask(self, value: int, left: int | None, size: int) -> Asker:
        deadline = None if left is None else 10**30 + self.now + left
        asker = Asker(value, deadline, size=size, at_ns=self.now)
        self.all.append(asker)
        self.house.cached.ask(asker.item)
        return asker

    @rule(asker=askers)
    def cancel(self, asker: Asker) -> None:
        was_open = not asker.finals
        done = asker.item.cancel()
        assert done == (was_open and bool(asker.finals))
        if done:
            assert isinstance(asker.error, CancelledError)

    @rule(place=st.integers(0, 20))
    def run(self, place: int) -> None:
        waiting = self.house.front.waiting
        if waiting:
            self.house.front.run(waiting[place % len(waiting)])

    @rule(place=st.integers(0, 20), kind=st.sampled_from([RunError, ModelNotReadyError]))
    def fail(self, place: int, kind: type) -> None:
        waiting = self.house.front.waiting
        if waiting:
            self.house.front.end(waiting[place % len(waiting)], kind("no"))

    @rule(ns=st.integers(1, 6))
    def wait(self, ns: int) -> None:
        self.now += ns
        for run in list(self.house.front.waiting):
            deadline = run.request.deadline_ns
            if deadline is not None and deadline <= 10**30 + self.now:
                self.house.front.end(run, DeadlineExceededError("late"))

    @rule()
    def hash(self) -> None:
        self.house.later.do()

    @rule(factor=st.sampled_from([2, 5]))
    def swap(self, factor: float) -> None:
        self.house.front.become(factor)

    @invariant()
    def nothing_is_wrong(self) -> None:
        if not hasattr(self, "house"):
            return
        assert self.house.store.used <= self.house.store.size
        factor = self.house.front.factor
        for asker in self.all:
            assert len(asker.finals) <= 1
            if asker.finals and not hasattr(asker, "checked"):
                asker.checked = True
                response = asker.finals[0]
                if response.error is None:
                    # Answered in the step before this check, so by what serves now.
                    assert asker.y == asker.value * factor
                elif isinstance(response.error, DeadlineExceededError):
                    assert asker.item.request.deadline_ns <= 10**30 + self.now

    def teardown(self) -> None:
        if not hasattr(self, "house"):
            return
        self.house.later.do()
        self.house.run_all()
        self.nothing_is_wrong()
        assert all(len(asker.finals) == 1 for asker in self.all), "nobody is forgotten"
        assert not self.house.cached._flights
        assert self.house.front.stays == 0
        assert self.house.front.counters.requests == len(self.all)


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
