"""Who is let in while a device has not enough time for all, in simulated time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress

import numpy as np
import pytest

from benchmarks.figures import percentile
from edged.config.schema import ModelConfig
from edged.errors import QueueFullError
from edged.messages import InferRequest
from edged.serving.release import ServedRelease
from edged.serving.scheduling.precedence import Rules
from edged.serving.scheduling.scheduler import Waiting
from edged.serving.scheduling.slots import Devices
from edged.serving.scheduling.turn import Turn
from tests.fakes.device import SECOND, Asker, Device, SimLoop, serve, simulated

MS = 1_000_000
ROW = np.zeros((1, 4), np.float32)
CORES = 2
PATIENCE_NS = {"high": 50 * MS, "low": 100 * MS}


def unbatched(rows: int) -> float:
    return 3.0 * MS * rows


def batched(rows: int) -> float:
    return 1.0 * MS + 0.2 * MS * rows


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimLoop]:
    logging.disable(logging.INFO)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(CORES)))
    with simulated(monkeypatch) as one:
        yield one
    logging.disable(logging.NOTSET)


class House:
    """A device with a model of each class, asked so many times what it can do."""

    def __init__(
        self,
        loop: SimLoop,
        high: float,
        low: float,
        cost_ns: Callable[[int], float] = unbatched,
        weights: tuple[int, ...] | None = None,
        reserved: tuple[int, ...] = (0, 0, 0),
    ) -> None:
        self.loop = loop
        self.device = Device(loop, CORES, noise=0.3, seed=1)
        self.turn = Turn()
        self.devices = Devices(Rules(CORES, reserved, SECOND, weights, has_express=True))
        self.askers = {}
        self.releases = {name: self.serve(name, name, cost_ns) for name in ("high", "low")}
        rows = self.releases["low"].batch_rows
        self.peak = CORES * rows / cost_ns(rows) * SECOND / np.exp(0.3**2 / 2)
        for name, times in (("high", high), ("low", low)):
            if times:
                rate = times * self.peak
                release, patience_ns = self.releases[name], PATIENCE_NS[name]
                self.askers[name] = Asker(self.device, release, rate, patience_ns, ROW)

    def serve(self, name: str, priority: str, cost_ns: Callable[[int], float]) -> ServedRelease:
        config = ModelConfig(bundle="b", priority=priority)
        return serve(self.device, name, config, cost_ns, self.devices, self.turn)

    def run(self, seconds: float) -> None:
        self.loop.run_to(self.loop.now_ns + int(seconds * SECOND))

    def forget(self) -> list[Asker]:
        """Count from now on."""
        for asker in self.askers.values():
            asker.asked = asker.refused = asker.in_time = asker.late = 0
        return list(self.askers.values())

    def share_of_peak(self, seconds: float) -> float:
        return sum(asker.in_time for asker in self.askers.values()) / seconds / self.peak


def test_three_times_too_much_of_two_classes(loop: SimLoop):
    """Noisy runs; after the first three seconds, in which it learns."""
    house = House(loop, 0.8, 2.2)
    house.run(3)
    high, low = house.forget()
    house.run(6)
    assert high.kept >= 0.99
    assert low.kept >= 0.99
    assert high.refused < 0.01 * high.asked, "there is time for all of the higher class"
    assert low.in_time > 0.75 * 0.2 * house.peak * 6, "and what is left is for the lower one"
    assert house.share_of_peak(6) >= 0.9


@pytest.mark.parametrize(
    ("high", "low", "patience_ns"), [(0.8, 2.2, PATIENCE_NS), (0.0, 3.0, {"low": 60 * SECOND})]
)
def test_who_is_shut_out_at_once_would_be_refused_anyhow(
    loop: SimLoop,
    high: float,
    low: float,
    patience_ns: dict[str, int],
    monkeypatch: pytest.MonkeyPatch,
):
    """By a queue that moves too slowly, and by one that is full."""
    monkeypatch.setitem(PATIENCE_NS, "low", patience_ns["low"])
    house = House(loop, high, low)
    shut_out, let_in = dict.fromkeys(house.askers, 0), 0

    def asked(release: ServedRelease, item: Waiting) -> None:
        if release.shuts_out(item.rows, item.request.deadline_ns, loop.now_ns) is None:
            release_offer(release, item)
            return
        nonlocal let_in
        shut_out[release.key.model] += 1
        release_offer(release, item)
        let_in += 1

    release_offer = ServedRelease.offer
    monkeypatch.setattr(ServedRelease, "offer", asked)
    house.run(6)
    low_asker = house.askers["low"]
    assert shut_out["low"] > 0.2 * low_asker.refused > 100
    assert let_in <= 0.01 * shut_out["low"], "what others do on the device shows a moment later"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("high", "low", "cost_ns", "weights"),
    [
        (0.0, 3.0, unbatched, None),
        (0.9, 2.1, unbatched, None),
        (0.6, 2.4, batched, None),
        (1.5, 1.5, unbatched, (8, 4, 1)),
    ],
)
def test_other_ways_to_ask_too_much(
    loop: SimLoop,
    high: float,
    low: float,
    cost_ns: Callable[[int], float],
    weights: tuple[int, ...] | None,
):
    seconds = 6 if cost_ns is batched else 25
    house = House(loop, high, low, cost_ns, weights)
    house.run(2)
    house.forget()
    house.run(seconds)
    for name, asker in house.askers.items():
        assert asker.in_time, name
        assert asker.kept >= 0.99, (name, asker.in_time, asker.late)
    assert house.share_of_peak(seconds) >= 0.9


@pytest.mark.slow
def test_a_higher_class_that_wants_everything(loop: SimLoop):
    """The lower one is told so, but for a few at the start; its turn each second is another matter."""
    house = House(loop, 1.5, 1.5)
    house.run(10)
    high, low = house.askers["high"], house.askers["low"]
    assert high.kept >= 0.99
    assert low.refused > 0.99 * low.asked
    assert house.share_of_peak(10) >= 0.9
    before = low.late
    house.run(10)
    assert low.late == before, "it has learnt"
    high.rate /= 100
    house.run(2)
    before = low.in_time
    house.run(5)
    assert low.in_time - before > 0.9 * house.peak * 5 * 0.9, "it is let in again at once"


@pytest.mark.slow
def test_a_machine_that_is_slow_now_and_then(loop: SimLoop):
    house = House(loop, 0.6, 2.4)

    def change() -> None:
        house.device.slow = house.device.chance.choice([1.0, 1.0, 1.0, 2.0])
        loop.at(loop.now_ns + 500 * MS, change)

    change()
    house.run(15)
    assert house.askers["high"].kept >= 0.99
    assert house.askers["low"].kept >= 0.97


@pytest.mark.parametrize(("reserved", "most"), [((0, 0, 0), 2.0 + 1.2 * 3), ((1, 0, 0), 2 * 2.0)])
def test_a_higher_class_beside_a_flood(loop: SimLoop, reserved: tuple[int, ...], most: float):
    """50 requests a second of 1 ms each; its p99 is 2 ms while nobody else asks."""
    house = House(loop, 0.0, 0.0, reserved=reserved)
    guard = house.serve("guard", "high", lambda rows: 1.0 * MS * rows)
    asker = Asker(house.device, guard, 50, SECOND, ROW)
    flood, rate = house.releases["low"], 3 * house.peak

    def ask() -> None:
        loop.at(loop.now_ns + int(house.device.chance.expovariate(rate) * SECOND), ask)
        request = InferRequest("low", {"x": ROW})
        with suppress(QueueFullError):
            flood.offer(Waiting(request, lambda *_: None, 1, (), 16, loop.now_ns, 1, flood))

    ask()
    house.run(8)
    assert percentile(asker.took_ns, 0.99) <= most * MS
    assert asker.refused == asker.late == 0
    assert flood.backlog.rows > 900, "a flood it was"


def test_without_a_deadline_nobody_is_refused(loop: SimLoop):
    house = House(loop, 1.5, 0.0)
    house.run(1)
    release = house.releases["low"]
    request = InferRequest("low", {"x": ROW})
    item = Waiting(request, lambda *_: None, 1, (), 16, loop.now_ns, 1, release)
    release.offer(item)
    late = InferRequest("low", {"x": ROW}, None, (), loop.now_ns + 20 * MS)
    with pytest.raises(QueueFullError, match="too many for the deadline"):
        release.offer(Waiting(late, lambda *_: None, 1, (), 16, loop.now_ns, 1, release))
