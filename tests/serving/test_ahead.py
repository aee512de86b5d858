"""Batches that begin when a run ends, before the loop has seen that, in simulated time."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from operator import mul

import msgspec
import numpy as np
import pytest

from edged.config.schema import BatchingConfig, ModelConfig
from edged.errors import EdgedError
from edged.messages import InferRequest, InferResponse
from edged.serving.release import ServedRelease
from edged.serving.scheduling.precedence import Rules
from edged.serving.scheduling.scheduler import Waiting
from edged.serving.scheduling.slots import Devices
from edged.serving.scheduling.turn import Turn
from tests.fakes.device import SECOND, Device, SimLoop, serve, simulated

MS = 1_000_000
ROW = np.zeros((1, 4), np.float32)
CORES = 2


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimLoop]:
    logging.disable(logging.INFO)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(CORES)))
    with simulated(monkeypatch) as one:
        yield one
    logging.disable(logging.NOTSET)


class House:
    """A device whose loop hears of an end a millisecond later; every run takes 3 ms."""

    def __init__(self, loop: SimLoop, rules: Rules | None = None) -> None:
        self.loop, self.turn = loop, Turn()
        self.device = Device(loop, CORES)
        self.device.late_ns = lambda: MS
        self.devices = Devices(rules or Rules(CORES, starvation_ns=SECOND, has_express=True))
        self.answers: list[tuple[str, int, EdgedError | None]] = []
        self.taken = 0

    def serve(
        self, name: str, priority: str = "normal", instances: int = 2, run_ms: float = 3.0
    ) -> ServedRelease:
        batching = BatchingConfig(instances=instances, max_batch=1)
        made = ModelConfig(bundle="b", priority=priority, batching=batching)
        cost_ns = functools.partial(mul, run_ms * MS)
        return serve(self.device, name, made, cost_ns, self.devices, self.turn)

    def serve_batches(self, name: str, priority: str) -> ServedRelease:
        """One that runs eight rows in the time of one."""
        made = ModelConfig(bundle="b", priority=priority, batching=BatchingConfig(max_batch=8))

        def cost_ns(rows: int) -> float:
            return 3.0 * MS

        return serve(self.device, name, made, cost_ns, self.devices, self.turn)

    def ask(self, release: ServedRelease, patience_ns: int = 0) -> Waiting | None:
        now_ns = self.loop.now_ns

        def answered(response: InferResponse, final: bool) -> None:
            assert final
            self.answers.append((response.model, self.loop.now_ns - now_ns, response.error))

        deadline_ns = now_ns + patience_ns if patience_ns else None
        request = InferRequest(release.key.model, {"x": ROW}, None, (), deadline_ns)
        item = Waiting(request, answered, 1, (), 16, now_ns, 1, release)
        try:
            release.offer(item)
        except EdgedError:
            return None
        self.taken += 1
        return item

    def after(self, ns: int) -> None:
        self.loop.run_to(self.loop.now_ns + ns)

    def of(self, name: str) -> list[int]:
        return [took_ns for model, took_ns, _ in self.answers if model == name]


def let_all_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ServedRelease, "refuse_late", lambda *_: None)


def busy_share(loop: SimLoop) -> float:
    house = House(loop)
    one, two = house.serve("one"), house.serve("two")
    house.ask(one)
    house.after(3 * MS // 2)  # so that two runs do not end at the same time
    began_ns = house.device.busy_ns
    for _ in range(50):
        house.ask(one)
        house.ask(two)
    house.after(90 * MS)
    return (house.device.busy_ns - began_ns) / (CORES * 90 * MS)


def test_no_core_waits_for_the_loop(loop: SimLoop):
    assert busy_share(loop) >= 0.99


def test_control_without_it_a_quarter_is_lost(loop: SimLoop, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ServedRelease, "get_ready", lambda *_: None)
    assert busy_share(loop) < 0.8


@pytest.mark.parametrize("low_instances", [1, 2])
def test_the_higher_class_waits_for_one_run_only(loop: SimLoop, low_instances: int):
    house = House(loop)
    high, low = house.serve("high", "high"), house.serve("low", "low", low_instances)
    also = house.serve("also", "low")
    for _ in range(40):
        house.ask(low)
        house.ask(also)
    for _ in range(8):
        house.after(8 * MS)
        house.ask(high)
        house.ask(high)
    house.after(SECOND)
    # What runs, its own run, and the loop that hears of the end of either.
    assert len(house.of("high")) == 16
    assert max(house.of("high")) <= 3 * MS + 3 * MS + 2 * MS
    assert len(house.answers) == 96


def test_a_higher_class_at_its_limit_is_not_passed_by(loop: SimLoop):
    """All slots are its own, so it stands in no line; nothing of a lower class may be in hand."""
    house = House(loop)
    high, low = house.serve("high", "high"), house.serve("low", "low")
    for _ in range(20):
        house.ask(high)
        house.ask(low)
    house.after(SECOND)
    names = [model for model, _, _ in house.answers]
    assert names[:20] == ["high"] * 20
    assert len(names) == 40


def test_nor_when_it_has_no_time_to_wait_at_its_threads(
    loop: SimLoop, monkeypatch: pytest.MonkeyPatch
):
    let_all_in(monkeypatch)
    house = House(loop)
    high, low, also = (
        house.serve(*kind) for kind in (("high", "high"), ("low", "low"), ("also", "low"))
    )
    house.ask(high)
    house.ask(high)
    house.after(MS)
    for _ in range(4):
        house.ask(low)
    house.after(0)
    assert low.running == 1, "in hand"
    house.ask(high, 8 * MS + MS // 2)
    house.after(0)
    assert low.running == 0, "it was taken back"
    house.ask(also)
    house.after(0)
    assert (low.running, also.running) == (0, 0)
    house.after(SECOND)
    assert [model for model, _, _ in house.answers][:3] == ["high"] * 3
    assert len(house.answers) == 8


def test_a_second_one_of_a_class_runs_before_a_lower_one_that_was_in_hand(loop: SimLoop):
    """It could run beside the first, which is not worth a run: so it stands in no line."""
    house = House(loop)
    high, low = house.serve_batches("high", "high"), house.serve("low", "low")
    house.ask(high)
    house.after(3 * MS // 2)
    for _ in range(10):
        house.ask(low)
    house.after(0)
    assert low.running == 2, "one runs, and one is in hand"
    house.ask(high)
    assert low.running == 1, "for the end of the first of the class"
    house.after(SECOND)
    # Half of the first one's run, its own, and a loop that hears of both ends a millisecond late.
    assert house.of("high")[1] <= (1.5 + 1 + 3 + 1) * MS
    assert len(house.answers) == 12


def test_what_is_in_hand_stays_there_when_more_of_the_same_comes(loop: SimLoop):
    """It counts as a run of its own, and is none yet: nobody waits for its end."""
    house = House(loop)
    one, two = house.serve("one", instances=1), house.serve("two")
    house.ask(two)
    house.ask(two)
    house.after(MS)
    house.ask(one)
    house.after(0)
    assert one.running == 1, "in hand"
    house.ask(one)
    house.after(0)
    assert one.running == 1, "still"
    house.after(SECOND)
    assert len(house.answers) == 4


def test_who_may_have_a_reserved_slot_by_a_reload_has_it_at_once(loop: SimLoop):
    house = House(loop, Rules(CORES, (1, 0, 0), has_express=False))
    one, two = house.serve("one", "low", run_ms=60.0), house.serve("two", "low", run_ms=60.0)
    house.ask(one)
    house.ask(two)
    house.after(MS)
    assert (one.running, two.running) == (1, 0)
    two.configure(msgspec.structs.replace(two.config, priority="high"))
    assert two.running == 1
    house.after(SECOND)
    assert len(house.answers) == 2


def test_one_of_a_higher_class_is_in_hand_alone_and_others_join_it(loop: SimLoop):
    house = House(loop)
    high, low = house.serve_batches("high", "high"), house.serve("low", "low")
    house.ask(low)
    house.after(MS)
    for _ in range(10):
        house.ask(low)
    house.after(0)
    for _ in range(3):
        house.ask(high)
        house.after(MS // 10)
        assert (high.running, low.running) == (1, 2)
    house.after(SECOND)
    # The rest of the first run, its own, and the loop hears of its own end only.
    assert house.of("high") == [(6 + 1 - 1) * MS - n * MS // 10 for n in range(3)]
    assert high.counters.batches == 1
    assert len(house.answers) == 14


def test_one_of_a_lower_class_alone_is_not(loop: SimLoop):
    house = House(loop)
    high, low = house.serve("high", "high"), house.serve_batches("low", "low")
    house.ask(high)
    house.ask(high)
    house.after(MS)
    house.ask(low)
    house.after(0)
    assert (low.running, low.backlog.rows) == (0, 1)


def test_who_goes_first_takes_its_place_before_the_turn_is_over(loop: SimLoop):
    """A turn of the loop may take as long as a run; a thread begins what is ahead meanwhile."""
    house = House(loop)
    high, low = house.serve("high", "high"), house.serve("low", "low")
    normal = house.serve("normal")
    for _ in range(10):
        house.ask(low)
    house.after(MS)
    assert low.running == 3, "the third waits at the threads"
    house.ask(normal)
    assert (low.running, normal.running) == (2, 1), "in hand"
    house.ask(high)
    assert (low.running, normal.running, high.running) == (2, 0, 1)
    house.after(SECOND)
    assert [model for model, _, _ in house.answers][2:4] == ["high", "normal"]
    assert len(house.answers) == 12


def test_a_slot_that_a_class_reserves_is_not_given_away(loop: SimLoop):
    house = House(loop, Rules(CORES, (1, 0, 0), SECOND))
    high, low, also = (
        house.serve(*kind) for kind in (("high", "high"), ("low", "low"), ("also", "low"))
    )
    for _ in range(20):
        house.ask(low)
        house.ask(also)
    for _ in range(5):
        house.after(5 * MS)
        house.ask(high)
    house.after(SECOND)
    assert max(house.of("high")) <= 3 * MS + MS, "it waited for nobody"


def test_a_deadline_that_is_near_is_watched_in_the_queue(
    loop: SimLoop, monkeypatch: pytest.MonkeyPatch
):
    let_all_in(monkeypatch)
    house = House(loop)
    flood = house.serve("flood", run_ms=12.0)
    for _ in range(10):
        house.ask(flood)
    house.after(MS)
    for name, patience_ms, running in (("near", 15, 0), ("far", 21, 1)):
        one = house.serve(name, "high")
        item = house.ask(one, patience_ms * MS)
        house.after(0)
        assert one.running == running
        if not running:
            assert one.withdraw(item)
            one.hold()
    house.after(SECOND)
    assert len(house.answers) == 12


def test_what_is_in_hand_is_given_back_when_its_model_goes(loop: SimLoop):
    house = House(loop)
    flood, one = house.serve("flood", "high"), house.serve("one", "low")
    house.ask(flood)
    house.ask(flood)
    house.after(MS)
    item = house.ask(one)
    house.after(0)
    assert (one.running, one.backlog.rows) == (1, 0)
    one.hold()
    assert (one.running, one.backlog.rows) == (0, 1)
    assert one.withdraw(item)
    house.after(SECOND)
    assert len(house.of("flood")) == 2


@pytest.mark.parametrize("seed", range(30))
def test_any_schedule(loop: SimLoop, seed: int):
    """Nothing is lost or runs twice, no slot is used twice, and at the end none is held."""
    house = House(loop)
    chance = house.device.chance
    chance.seed(seed)
    house.device.late_ns = lambda: chance.choice((0, 0, MS // 10, 2 * MS, 9 * MS))
    kinds = [("high", 2), ("normal", 1), ("low", 2), ("low", 1)]
    releases = [house.serve(f"m{i}", *kind) for i, kind in enumerate(kinds)]
    releases += [house.serve_batches(name, name) for name in ("high", "normal")]
    for _ in range(400):
        release = chance.choice(releases)
        item = house.ask(release, chance.choice((0, 0, 8 * MS, 40 * MS)))
        house.after(chance.choice((0, 0, MS, 3 * MS)))
        event = chance.random()
        if item is not None and event < 0.05:
            release.withdraw(item)
        elif event < 0.08:
            release.hold()
        elif event < 0.12:
            house.devices.configure(Rules(CORES, (chance.choice((0, 1)), 0, 0), SECOND))
        elif event < 0.2:
            for one in releases:
                one.go_on()
    house.devices.configure(Rules(CORES, starvation_ns=SECOND))
    for one in releases:
        one.go_on()
    house.after(10 * SECOND)
    assert len(house.answers) == house.taken
    assert house.device.most <= CORES
    assert all((one.running, one.running_rows, one.in_flight) == (0, 0, 0) for one in releases)
    slots = releases[0].slots
    assert (slots.held.total, slots.held.express, slots.waiting) == (0, 0, 0)
