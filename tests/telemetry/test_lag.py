"""The loop's lateness: seen when something holds the loop up, and no timer when nobody asks."""

from __future__ import annotations

import asyncio
import time

from edged.telemetry.lag import LoopLag


def test_a_loop_that_was_held_up():
    async def work() -> None:
        lag = LoopLag(every_s=0.01)
        assert lag.times is None
        lag.run(wanted=True)
        time.sleep(0.1)  # noqa: ASYNC251 - to hold up the loop is the point
        for _ in range(1000):
            await asyncio.sleep(0.001)
            if lag.times is not None and sum(lag.times.cells):
                break
        assert lag.times is not None
        # Due after 10 ms, run after 100 ms at the earliest.
        assert sum(lag.times.cells[26:]) == 1  # above 2^25 ns = 34 ms
        assert lag.times.sum_ns > 80_000_000
        lag.run(wanted=True)
        lag.run(wanted=False)
        assert lag.times is None

    asyncio.run(work())
    # A timer left behind would keep the loop's list of timers from being empty.


def test_no_timer_is_left():
    async def work() -> None:
        lag = LoopLag()
        lag.run(wanted=True)
        lag.run(wanted=False)
        lag.run(wanted=False)
        loop = asyncio.get_running_loop()
        assert all(timer.cancelled() for timer in loop._scheduled)  # type: ignore[attr-defined]

    asyncio.run(work())
