"""Several releases on one device: classes, slots, deadlines, and what waits at the threads."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.config.schema import BatchingConfig, QueueConfig
from edged.errors import CancelledError, DeadlineExceededError, DrainingError, QueueFullError
from edged.serving.lifecycle import Event, ReleaseKey
from edged.serving.release import ServedRelease
from edged.serving.scheduling.precedence import Rules
from edged.serving.scheduling.slots import Devices
from edged.serving.scheduling.turn import Turn
from tests.fakes.clock import Clock, on_loop, turns, until
from tests.fakes.model import FakeSession, doubler
from tests.serving.test_release import INLINE_NS, MS, Ask, config, offer

ONE = BatchingConfig(instances=1, max_batch=1)
SHORT_NS, LONG_NS = 10 * MS, 10**9


class House:
    """Releases that share a device and the loop, and the order of their runs."""

    def __init__(self, rules: Rules) -> None:
        self.devices, self.turn = Devices(rules), Turn()
        self.turn.starvation_ns = rules.starvation_ns
        self.order: list[str] = []
        self.releases: dict[str, ServedRelease] = {}
        self.sessions: dict[str, FakeSession] = {}

    def serve(
        self,
        name: str,
        priority: str = "normal",
        typical_ns: int = SHORT_NS,
        batching: BatchingConfig = ONE,
        costs: tuple = (),
        **more,
    ) -> ServedRelease:
        def double(inputs):
            self.order.append(name)
            return {"y": inputs["x"] * 2}

        session = FakeSession(double)
        session.gate = threading.Event()
        release = ServedRelease(
            ReleaseKey(name, "d", ""),
            doubler(name),
            config(priority=priority, batching=batching, **more),
            200_000,
            self.turn,
            devices=self.devices,
        )
        for event in (Event.LOAD, Event.LOADED, Event.WARMED):
            if event is Event.WARMED:
                release.loaded(session, "onnxruntime", typical_ns, costs)
            release.move(event)
        self.releases[name], self.sessions[name] = release, session
        return release

    def go(self, *names: str) -> None:
        for name in names or self.sessions:
            self.sessions[name].gate.set()

    async def end(self) -> None:
        self.go()
        await until(lambda: not any(one.in_flight for one in self.releases.values()))
        for release in self.releases.values():
            release.close()
        for _, slots in self.devices.items():
            assert (slots.held.total, slots.held.express, slots.waiting) == (0, 0, 0)


def flood(release: ServedRelease, count: int) -> list[Ask]:
    asks = [Ask() for _ in range(count)]
    for ask in asks:
        release.offer(ask.waiting(time.monotonic_ns()))
    return asks


class TestSlots:
    @on_loop
    async def test_a_higher_class_is_next_though_the_flood_had_a_batch_at_its_threads(self):
        house = House(Rules(1))
        low, high = house.serve("low"), house.serve("high", "high")
        asks = flood(low, 5)
        await until(lambda: low.running == 2 and house.sessions["low"].runs)
        asks += flood(high, 2)
        await turns()
        assert low.running == 1, "what had not begun was taken back"
        assert not house.sessions["high"].runs, "and what had is waited for"
        await self.ended(house, asks)
        assert house.order == ["low", "high", "high", "low", "low", "low", "low"]

    @on_loop
    async def test_one_of_its_own_class_has_its_turn(self):
        house = House(Rules(1))
        one, other = house.serve("one"), house.serve("other")
        asks = flood(one, 4)
        await until(lambda: bool(house.sessions["one"].runs))
        asks += flood(other, 3)
        await turns()
        await self.ended(house, asks)
        assert house.order == ["one", "other", "one", "other", "one", "other", "one"]

    @on_loop
    async def test_the_earlier_deadline_of_two_models(self):
        house = House(Rules(1))
        busy, late, soon = house.serve("busy"), house.serve("late"), house.serve("soon")
        asks = flood(busy, 1)
        await until(lambda: bool(house.sessions["busy"].runs))
        now_ns = time.monotonic_ns()
        for release, seconds in ((late, 60), (soon, 50)):
            asks.append(Ask(deadline_ns=now_ns + seconds * 10**9))
            release.offer(asks[-1].waiting(now_ns))
        await turns()
        await self.ended(house, asks)
        assert house.order == ["busy", "soon", "late"]

    @on_loop
    async def test_a_slot_that_is_reserved_is_there_at_once(self):
        house = House(Rules(2, (1, 0, 0)))
        low = house.serve("low", batching=BatchingConfig(instances=2, max_batch=1))
        high = house.serve("high", "high")
        assert low.instances == 1
        asks = flood(low, 4)
        await until(lambda: bool(house.sessions["low"].runs))
        asks += flood(high, 1)
        house.go("high")
        await until(lambda: bool(asks[-1].answers))
        assert house.order == ["high"]
        await self.ended(house, asks)

    @on_loop
    async def test_a_short_run_does_not_wait_for_long_ones(self):
        house = House(Rules(1, has_express=True))
        long, short = house.serve("long", typical_ns=LONG_NS), house.serve("short")
        asks = flood(long, 2)
        await until(lambda: bool(house.sessions["long"].runs))
        asks += flood(short, 1)
        house.go("short")
        await until(lambda: bool(asks[-1].answers))
        assert house.order == ["short"]
        await self.ended(house, asks)

    @on_loop
    async def test_who_waits_for_a_slot_hears_of_its_deadline(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        clock, house = Clock(monkeypatch), House(Rules(1))
        busy, waiting = house.serve("busy"), house.serve("waiting")
        asks = flood(busy, 1)
        await until(lambda: bool(house.sessions["busy"].runs))
        late = Ask(deadline_ns=clock.now_ns + 5 * MS)
        offer(waiting, clock, late)
        await clock.forward(6 * MS)
        assert isinstance(late.answer.error, DeadlineExceededError)
        await self.ended(house, asks)
        assert house.order == ["busy"]

    @on_loop
    async def test_closed_while_it_waits_for_a_slot(self):
        house = House(Rules(1))
        busy, gone = house.serve("busy"), house.serve("gone")
        asks = flood(busy, 2)
        await until(lambda: bool(house.sessions["busy"].runs))
        (left,) = flood(gone, 1)
        await turns()
        gone.close()
        assert isinstance(left.answer.error, DrainingError)
        await self.ended(house, asks)
        assert house.order == ["busy", "busy"]

    async def ended(self, house: House, asks: list[Ask]) -> None:
        await house.end()
        for ask in asks:
            ask.check()


class TestDeadlines:
    @on_loop
    async def test_the_earlier_deadline_runs_first(self, monkeypatch: pytest.MonkeyPatch):
        clock, house = Clock(monkeypatch), House(Rules(1))
        release = house.serve("one", typical_ns=LONG_NS)
        order: list[int] = []
        first = Ask()
        offer(release, clock, first)
        await until(lambda: bool(house.sessions["one"].runs))
        for seconds in (30, 10, 20):
            ask = Ask(1, clock.now_ns + seconds * 10**9, then=lambda s=seconds: order.append(s))
            offer(release, clock, ask)
        await house.end()
        assert order == [10, 20, 30]

    @on_loop
    async def test_who_could_only_be_late_is_told_at_once(self, monkeypatch: pytest.MonkeyPatch):
        clock, house = Clock(monkeypatch), House(Rules(1))
        release = house.serve("one", typical_ns=4 * MS, costs=((1, 4 * MS),))
        asks = [Ask(1, clock.now_ns + 22 * MS) for _ in range(4)]
        offer(release, clock, asks[0])
        await until(lambda: bool(house.sessions["one"].runs))
        offer(release, clock, *asks[1:])
        for what, at_ms in (("it would be late", 23), ("it would make others late", 20)):
            late = Ask(1, clock.now_ns + at_ms * MS)
            with pytest.raises(QueueFullError, match="too many for the deadline") as refused:
                offer(release, clock, late)
            assert refused.value.retry_after_ns >= MS, what
            assert not late.answers
        more = Ask()
        offer(release, clock, more)
        await house.end()
        for ask in (*asks, more):
            ask.check()

    @on_loop
    async def test_a_batch_makes_none_of_its_members_late(self, monkeypatch: pytest.MonkeyPatch):
        clock, house = Clock(monkeypatch), House(Rules(1))
        costs = ((1, 4 * MS), (2, 6 * MS), (4, 10 * MS))
        batching = BatchingConfig(instances=1, max_batch=4)
        release = house.serve("one", "normal", LONG_NS, batching, costs)
        urgent = Ask(1, clock.now_ns + 7 * MS)
        asks = [Ask(1), Ask(1), urgent]
        offer(release, clock, *asks)
        await until(lambda: bool(house.sessions["one"].runs))
        assert house.sessions["one"].runs == [2], "a third row would have taken until 8 ms"
        await house.end()
        assert urgent.answer.batch_rows == 2
        for ask in asks:
            ask.check()

    @on_loop
    async def test_one_at_the_threads_is_looked_at_again(self, monkeypatch: pytest.MonkeyPatch):
        clock, house = Clock(monkeypatch), House(Rules(1))
        release = house.serve("one")
        late = Ask(1, clock.now_ns + 60 * MS)
        first = Ask(1, clock.now_ns + 50 * MS)
        offer(release, clock, first, late)
        await until(lambda: release.running == 2 and bool(house.sessions["one"].runs))
        clock.now_ns += 61 * MS
        house.go()
        await until(lambda: bool(late.answers))
        assert isinstance(late.answer.error, DeadlineExceededError)
        first.check()
        assert house.order == ["one"]
        assert release.counters.batches == 1
        await house.end()


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("ask"), st.integers(0, 3), st.integers(1, 6), st.sampled_from([None, 1, 5, 40])
        ),
        st.tuples(st.just("withdraw"), st.integers(0, 50), st.just(0), st.none()),
        st.tuples(st.just("turn"), st.just(0), st.just(0), st.none()),
        st.tuples(st.just("forward"), st.integers(1, 9), st.just(0), st.none()),
        st.tuples(st.just("hold"), st.integers(0, 3), st.just(0), st.none()),
        st.tuples(st.just("let go"), st.integers(0, 3), st.just(0), st.none()),
        st.tuples(st.just("rules"), st.integers(1, 3), st.just(0), st.none()),
        st.tuples(st.just("close"), st.integers(0, 3), st.just(0), st.none()),
    ),
    max_size=40,
)


@given(STEPS, st.sampled_from([None, (8, 4, 1)]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_whatever_happens_each_is_answered_once_with_its_own_rows(steps, weights, has_express):
    """Four models of three classes on one device; no slot is lost and nobody waits for ever."""
    costs = ((1, 4 * MS), (2, 6 * MS), (4, 10 * MS))
    batching = BatchingConfig(max_batch=4, instances=2)

    async def play() -> None:
        with pytest.MonkeyPatch.context() as monkeypatch:
            clock = Clock(monkeypatch)
            house = House(Rules(2, (0, 0, 0), 50 * MS, weights, has_express))
            more = {"queue": QueueConfig(max_rows=20), "costs": costs, "batching": batching}
            for name, priority, typical_ns in (
                ("a", "high", SHORT_NS), ("b", "normal", SHORT_NS), ("c", "low", LONG_NS),
                ("d", "low", INLINE_NS),
            ):  # fmt: skip
                house.serve(name, priority, typical_ns, **more)
            house.go()
            names = [*house.releases]
            asks: list[Ask] = []
            items = []
            closed = set()
            for what, number, rows, deadline in steps:
                name = names[number % 4]
                release = house.releases[name]
                if what == "ask" and name not in closed:
                    at = None if deadline is None else clock.now_ns + deadline * MS
                    ask = Ask(rows, at)
                    item = ask.waiting(clock.now_ns)
                    item.queue = release
                    try:
                        release.offer(item)
                    except QueueFullError:
                        continue
                    asks.append(ask)
                    items.append(item)
                elif what == "withdraw" and items:
                    items[number % len(items)].cancel()
                elif what == "forward":
                    await clock.forward(number * MS)
                elif what == "hold" and name != "d":
                    house.sessions[name].gate.clear()
                elif what == "let go":
                    house.sessions[name].gate.set()
                elif what == "rules":
                    house.devices.configure(Rules(number + 1, (1, 0, 0), 50 * MS, weights))
                elif what == "close":
                    closed.add(name)
                    release.close()
                await turns(2)
            house.go()
            await until(lambda: not any(one.in_flight for one in house.releases.values()))
            await house.end()
            for ask in asks:
                if ask.answer.error is None:
                    ask.check()
                elif isinstance(ask.answer.error, DeadlineExceededError):
                    assert ask.request.deadline_ns is not None
                else:
                    assert isinstance(ask.answer.error, CancelledError | DrainingError)

    asyncio.run(asyncio.wait_for(play(), 20))
