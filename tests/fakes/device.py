"""A device in simulated time: real releases on a loop whose clock jumps from event to event.

Nothing waits and nothing is measured, so minutes of overload take seconds and are the same each
time. Runs take what a model of the device says, drawn from a seeded chance.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from edged.config.schema import ModelConfig
from edged.errors import EdgedError
from edged.messages import InferRequest, InferResponse
from edged.serving.lifecycle import Event, ReleaseKey
from edged.serving.release import ServedRelease
from edged.serving.scheduling.hand import Hand
from edged.serving.scheduling.scheduler import Waiting
from edged.serving.scheduling.slots import Devices
from edged.serving.scheduling.turn import Turn
from edged.tensors import Array
from tests.fakes.model import doubler

SECOND = 1_000_000_000


class SimLoop(asyncio.AbstractEventLoop):
    """The part of an event loop that serving needs, on a clock of its own."""

    def __init__(self) -> None:
        self.now_ns = SECOND
        self._events: list[tuple[int, int, asyncio.TimerHandle]] = []
        self._count = 0

    def time(self) -> float:
        return self.now_ns / 1e9

    def get_debug(self) -> bool:
        return False

    def at(self, at_ns: int, callback: Callable[..., Any], *args: Any) -> asyncio.TimerHandle:
        """Call back at a time, after what was put there before."""
        self._count += 1
        handle = asyncio.TimerHandle(at_ns / 1e9, callback, args, self)
        heapq.heappush(self._events, (at_ns, self._count, handle))
        return handle

    def call_soon(self, callback, *args, context=None):
        return self.at(self.now_ns, callback, *args)

    def call_soon_threadsafe(self, callback, *args, context=None):
        return self.at(self.now_ns, callback, *args)

    def call_later(self, delay, callback, *args, context=None):
        return self.at(self.now_ns + int(delay * 1e9), callback, *args)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is passed over when its time comes."""

    def run_to(self, until_ns: int) -> None:
        """Let everything happen that is due until then."""
        while self._events and self._events[0][0] <= until_ns:
            at_ns, _, handle = heapq.heappop(self._events)
            if not handle.cancelled():
                self.now_ns = max(self.now_ns, at_ns)
                handle._run()
        self.now_ns = until_ns


class Device:
    """Cores that runs share, and noise.

    Args:
        loop: whose clock it is.
        cores: more runs than these at once slow each other down.
        noise: of a run's time, as sigma of the logarithm.
        seed: of all chance.
    """

    def __init__(self, loop: SimLoop, cores: int = 2, noise: float = 0.0, seed: int = 0) -> None:
        self.loop = loop
        self.cores = cores
        self.ends_ns: list[int] = []
        """Of the runs that have begun."""
        self.busy_ns = 0
        self.most = 0
        """Runs that were under way at once."""
        self.late_ns: Callable[[], int] = int
        """How much later than a run's end the loop hears of it."""
        self.slow = 1.0
        """What everything takes longer by, for machines that do something else too."""
        self._noise = noise
        self.chance = random.Random(seed)

    def run_ns(self, likely_ns: float) -> int:
        """How long a run takes that begins now."""
        self.ends_ns = [end_ns for end_ns in self.ends_ns if end_ns > self.loop.now_ns]
        self.most = max(self.most, len(self.ends_ns) + 1)
        shared = max(1.0, (len(self.ends_ns) + 1) / self.cores)
        return int(likely_ns * self.slow * shared * self.chance.lognormvariate(0.0, self._noise))


class SimThreads:
    """In place of ``instance_threads.InstanceThreads``: its jobs take simulated time."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._jobs: list[Callable[[], Any]] = []
        self._free = 0
        self._threads = 0
        self.hand = Hand()

    def submit(self, job: Callable[[], Any], wanted: int) -> None:
        if self._threads < wanted:
            self._threads += 1
            self._free += 1
        self._jobs.append(job)
        self._next()

    def later(self, job: Callable[[], Any], wanted: int) -> Callable[[], None]:
        return partial(self.submit, job, wanted)

    def favour(self, *, is_urgent: bool) -> None:
        pass  # of a simulated device the order is all there is

    def close(self, last_job: Callable[[], Any] | None) -> None:
        if last_job is not None:
            last_job()

    def _next(self) -> None:
        while self._free and self._jobs:
            self._free -= 1
            self._work(self._jobs.pop(0))

    def _work(self, job: Callable[[], Any]) -> None:
        loop, device = self._device.loop, self._device
        began_ns = loop.now_ns
        # The session moves the clock on to the run's end; what it tells the loop comes then.
        tell_end = job()
        end_ns, loop.now_ns = loop.now_ns, began_ns
        device.ends_ns.append(end_ns)
        device.busy_ns += end_ns - began_ns
        loop.at(end_ns, self._ended, tell_end)

    def _ended(self, tell_end: Callable[[], None] | None) -> None:
        self._free += 1
        if tell_end is not None:
            self.hand.begin()
            loop = self._device.loop
            loop.at(loop.now_ns + self._device.late_ns(), tell_end)
        self._next()


class SimSession:
    """A session whose runs take time by their rows.

    Args:
        device: that it runs on.
        cost_ns: of a run of so many rows, when nothing disturbs it.
    """

    def __init__(self, device: Device, cost_ns: Callable[[int], float]) -> None:
        self._device = device
        self._cost_ns = cost_ns

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        x = inputs["x"]
        self._device.loop.now_ns += self._device.run_ns(self._cost_ns(len(x)))
        return {"y": x}

    def close(self) -> None:
        """Nothing is held."""


@contextmanager
def simulated(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimLoop]:
    """A loop that is the running one, and whose clock is everybody's."""
    loop = SimLoop()
    monkeypatch.setattr("time.monotonic_ns", lambda: loop.now_ns)
    asyncio._set_running_loop(loop)
    try:
        yield loop
    finally:
        asyncio._set_running_loop(None)


def serve(
    device: Device,
    name: str,
    config: ModelConfig,
    cost_ns: Callable[[int], float],
    devices: Devices,
    turn: Turn,
) -> ServedRelease:
    """A release that is ready, measured at the times that its runs will take."""
    release = ServedRelease(
        ReleaseKey(name, "d", ""), doubler(), config, 200_000, turn, devices=devices
    )
    release._threads = SimThreads(device)  # type: ignore[assignment]
    costs = tuple((rows, int(cost_ns(rows))) for rows in (1, 2, 4, 8, 16, 32))
    session: Any = SimSession(device, cost_ns)
    release.move(Event.LOAD)
    release.move(Event.LOADED)
    release.loaded(session, "onnxruntime", costs[0][1], costs)
    release.move(Event.WARMED)
    return release


class Asker:
    """Asks a release at the times of a Poisson process, whatever is answered.

    Args:
        device: of the release; its chance is used.
        release: that is asked.
        rate: requests a second.
        patience_ns: until a request's deadline.
        rows: of each request.
    """

    def __init__(
        self, device: Device, release: ServedRelease, rate: float, patience_ns: int, row: Array
    ) -> None:
        self._device = device
        self._release = release
        self._patience_ns = patience_ns
        self._inputs = {"x": row}
        self.rate = rate
        self.asked = self.refused = self.in_time = self.late = 0
        self.took_ns: list[int] = []
        self._ask_later()

    def _ask_later(self) -> None:
        loop = self._device.loop
        loop.at(loop.now_ns + int(self._device.chance.expovariate(self.rate) * 1e9), self._ask)

    def _ask(self) -> None:
        self._ask_later()
        self.asked += 1
        now_ns = self._device.loop.now_ns
        deadline_ns = now_ns + self._patience_ns
        request = InferRequest(self._release.key.model, self._inputs, None, (), deadline_ns)

        def answered(response: InferResponse, final: bool) -> None:
            assert final
            took_ns = self._device.loop.now_ns - now_ns
            self.took_ns.append(took_ns)
            if response.error is None and took_ns <= self._patience_ns:
                self.in_time += 1
            else:
                self.late += 1

        rows = len(self._inputs["x"])
        try:
            self._release.offer(
                Waiting(request, answered, rows, (), 16 * rows, now_ns, 1, self._release)
            )
        except EdgedError:
            self.refused += 1

    @property
    def kept(self) -> float:
        """Of those who were let in and answered, how many were in time."""
        return self.in_time / max(self.in_time + self.late, 1)
