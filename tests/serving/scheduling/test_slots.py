"""The slots of a device: taken, given back, waited for; a configuration becomes rules."""

from __future__ import annotations

import time

import msgspec
import pytest

from edged.config.schema import BatchingConfig, Config, ModelConfig, SchedulingConfig
from edged.serving.scheduling.hand import Begin
from edged.serving.scheduling.precedence import NEVER_NS, Rules
from edged.serving.scheduling.slots import Devices, DeviceSlots, rules_of

HIGH, NORMAL, LOW = range(3)


class Model:
    """A release that wants ``runs`` runs, one at a time when asked."""

    def __init__(self, slots: DeviceSlots, rank: int = NORMAL, *, is_short: bool = True) -> None:
        self.slots, self.rank, self.is_short = slots, rank, is_short
        self.typical_run_ns = 4_000_000
        self.is_ready = self.has_begun = False
        self.in_hand = 0
        self.is_pressing = False
        self.due_ns = NEVER_NS
        self.wanted = self.running = self.recalled = 0

    def ask(self, runs: int = 1) -> bool:
        self.wanted += runs
        return self.go()

    def go(self) -> bool:
        while self.wanted:
            if not self.slots.take(self):
                return False
            self.wanted -= 1
            self.running += 1
        return True

    def granted(self) -> None:
        self.go()

    def presses(self, rank: int) -> bool:
        return self.is_pressing and self.rank <= rank

    def recall(self) -> bool:
        if self.has_begun:
            return False
        self.recalled += 1
        self.wanted += self.in_hand
        self.in_hand = 0
        self.slots.settled(self)
        return True

    def get_ready(self, wait_ns: int) -> Begin | None:
        if not self.is_ready or not self.wanted:
            return None
        self.wanted -= 1
        self.in_hand = 1
        return self._follow

    def _follow(self) -> None:
        self.has_begun = True

    def begun(self) -> None:
        self.has_begun, self.in_hand = False, 0
        self.running += 1

    def end(self, run_ns: int = 4_000_000) -> None:
        self.running -= 1
        self.slots.give(self, run_ns)
        self.slots.serve()


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    clock = [0]
    monkeypatch.setattr(time, "monotonic_ns", lambda: clock[0])
    return clock


def test_who_waits_is_served_when_a_run_ends(now: list[int]):
    slots = DeviceSlots(Rules(2))
    flood, one = Model(slots), Model(slots)
    assert not flood.ask(5)
    assert not one.ask()
    assert (flood.running, one.running, slots.waiting) == (2, 0, 2)
    now[0] += 1
    flood.end()
    assert (flood.running, one.running) == (2, 0), "the flood asked first"
    flood.end()
    assert (flood.running, one.running) == (1, 1), "then it waits behind the other"
    one.end()
    assert (flood.running, flood.wanted, slots.waiting) == (2, 1, 1)
    assert slots.waits[NORMAL] > 0


def test_the_higher_class_is_next_and_the_lower_one_not_never(now: list[int]):
    slots = DeviceSlots(Rules(1, starvation_ns=100))
    high, low = Model(slots, HIGH), Model(slots, LOW)
    high.ask(100)
    low.ask()
    for _ in range(9):
        now[0] += 10
        high.end()
        assert (high.running, low.running) == (1, 0)
    now[0] += 10
    high.end()
    assert (high.running, low.running) == (0, 1), "it waited for 100"
    low.end()
    assert high.running == 1


def test_a_reserved_slot(now: list[int]):
    slots = DeviceSlots(Rules(2, (1, 0, 0)))
    flood, high = Model(slots), Model(slots, HIGH)
    flood.ask(5)
    assert flood.running == 1
    assert slots.has_room(high)
    assert not slots.has_room(flood)
    assert high.ask()
    high.end()
    assert (flood.running, high.running) == (1, 0), "it stays free"


def test_a_short_run_passes_long_ones(now: list[int]):
    slots = DeviceSlots(Rules(2, has_express=True))
    long, short = Model(slots, is_short=False), Model(slots)
    long.ask(3)
    assert long.running == 2
    assert short.ask()
    assert (slots.held.total, slots.held.express) == (2, 1)
    assert not short.ask()
    short.end()
    assert short.running == 1, "the lane is free again, and for short ones only"
    assert long.running == 2


def test_what_waits_at_the_threads_is_taken_back_for_others(now: list[int]):
    slots = DeviceSlots(Rules(1))
    flood, other = Model(slots), Model(slots)
    flood.ask()
    assert slots.ahead(flood)
    other.ask()
    assert flood.recalled == 1
    assert not slots.ahead(flood), "somebody waits"
    flood.end()
    assert other.running == 1


def test_weights(now: list[int]):
    slots = DeviceSlots(Rules(1, weights=(3, 1, 1)))
    high, normal = Model(slots, HIGH), Model(slots)
    served = {high: 0, normal: 0}
    for model in served:
        model.ask(1000)
    for _ in range(400):
        (model,) = (one for one in served if one.running)
        served[model] += 1
        model.end()
    assert served[high] == pytest.approx(300, abs=2)


def test_one_that_leaves_wants_nothing(now: list[int]):
    slots = DeviceSlots(Rules(1))
    first, gone, last = Model(slots), Model(slots), Model(slots)
    for model in (first, gone, last):
        model.ask()
    slots.leave(gone)
    first.end()
    assert (gone.running, last.running) == (0, 1)
    slots.leave(last)
    last.end()
    assert slots.held.total == 0, "what ran is given back all the same"


def test_a_run_that_began_without_asking_counts(now: list[int]):
    slots = DeviceSlots(Rules(1))
    one, other = Model(slots), Model(slots)
    slots.hold(one)
    assert not other.ask()
    one.running = 1
    one.end()
    assert other.running == 1


def test_a_class_that_changed_meanwhile_gives_back_what_it_took(now: list[int]):
    slots = DeviceSlots(Rules(2))
    one = Model(slots)
    one.ask()
    one.rank = HIGH
    one.ask()
    assert slots.held.by_rank == [1, 1, 0]
    one.end()
    one.end()
    assert slots.held.by_rank == [0, 0, 0]


def test_other_rules_serve_who_waits(now: list[int]):
    slots = DeviceSlots(Rules(1))
    one = Model(slots)
    one.ask(3)
    slots.configure(Rules(3))
    assert one.running == 3


def test_a_class_is_kept_out_while_higher_ones_take_every_slot(now: list[int]):
    slots = DeviceSlots(Rules(1, starvation_ns=100))
    high, low = Model(slots, HIGH), Model(slots, LOW)
    now[0] = 10
    assert high.ask(30) is False
    assert not slots.has_plenty
    now[0] = 15
    assert slots.kept_out_ns(LOW, now[0]) == 0, "no other has begun since it could have"
    for at in (20, 30, 40):
        now[0] = at
        high.end()
    assert slots.kept_out_ns(LOW, now[0]) == 30
    assert slots.kept_out_ns(HIGH, now[0]) == 0, "nobody is above it"
    low.ask()
    now[0] = 200
    high.end()
    high.end()
    assert low.running == 1, "it has waited for long enough"
    assert slots.kept_out_ns(LOW, now[0]) == 100, "which says nothing of the next"
    low.end()
    high.wanted = 0
    high.end()
    assert slots.has_plenty
    low.ask()
    assert slots.kept_out_ns(LOW, now[0]) == 0


def test_a_batch_that_waited_at_a_thread_is_a_run_of_its_class(now: list[int]):
    slots = DeviceSlots(Rules(1, weights=(1, 1, 1)))
    high, low = Model(slots, HIGH), Model(slots, LOW)
    now[0] = 10
    high.ask()
    slots.ahead(high)
    now[0] = 20
    slots.hand_on(high, 10)
    assert slots.kept_out_ns(LOW, now[0]) == 10
    high.end(10)
    high.wanted, low.wanted = 5, 1
    low.go()
    high.go()
    assert slots.waiting == 1
    low.end(30)
    assert high.running == 1
    high.end(5)
    assert high.running == 1, "25 of 30: the time of both runs of it counts"


def test_what_higher_classes_leave(now: list[int]):
    slots, shared = DeviceSlots(Rules(2)), DeviceSlots(Rules(2, weights=(8, 4, 1)))
    for of in (slots, shared):
        high = Model(of, HIGH)
        for now[0] in range(0, 10_000_000_000, 10_000_000):
            high.ask()
            high.end(10_000_000)
    assert slots.left_for(HIGH) == 1
    assert slots.left_for(LOW) == pytest.approx(0.5, abs=0.01)
    assert shared.left_for(LOW) == 1, "what is its own"


def test_devices():
    devices = Devices(Rules(2))
    assert devices.of("onnxruntime") is devices.of("") is devices.of("another one")
    assert devices.of("onnxruntime-cuda") is not devices.of("onnxruntime")
    assert [name for name, _ in devices.items()] == ["cpu", "cuda"]
    devices.configure(Rules(5))
    assert {slots.rules.slots for _, slots in devices.items()} == {5}
    assert Devices().rules.slots >= 1


def configured(scheduling: dict, **models: int) -> Config:
    sections = {
        name: ModelConfig(bundle="b", batching=BatchingConfig(instances=instances))
        for name, instances in models.items()
    }
    return Config(scheduling=msgspec.convert(scheduling, SchedulingConfig), models=sections)


@pytest.mark.parametrize(
    ("scheduling", "models", "cores", "slots", "usable"),
    [
        ({}, {}, 2, 2, [2, 2, 2]),
        ({}, {"a": 0, "b": 5}, 2, 5, [5, 5, 5]),  # who says so many runs gets them
        ({"reserved": {"high": 1}}, {}, 1, 2, [2, 1, 1]),  # one is always left for the others
        ({"reserved": {"high": 1, "normal": 2}}, {}, 8, 8, [8, 7, 5]),
        ({"slots": 3}, {"a": 5}, 2, 3, [3, 3, 3]),
    ],
)
def test_rules(scheduling: dict, models: dict, cores: int, slots: int, usable: list[int]):
    rules = rules_of(configured(scheduling, **models), cores)
    assert rules.slots == slots
    assert [rules.usable(rank) for rank in range(3)] == usable
    assert rules.has_express is ("slots" not in scheduling)
    assert rules.weights is None
    assert rules.starvation_ns == 10**9


def test_weighted_rules():
    rules = rules_of(configured({"policy": "weighted", "weights": {"low": 2}}), 2)
    assert rules.weights == (8, 4, 2)
