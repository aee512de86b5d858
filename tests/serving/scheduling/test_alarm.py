"""One timer for the earliest of many times, on a clock that a test moves."""

from __future__ import annotations

import pytest

from edged.serving.scheduling.alarm import Alarm
from tests.fakes.clock import Clock, on_loop

MS = 1_000_000


@on_loop
async def test_rings_once_at_the_earliest(monkeypatch: pytest.MonkeyPatch):
    clock, rung = Clock(monkeypatch), []
    alarm = Alarm(lambda: rung.append(1))
    start = clock.now_ns
    for delay in (30, 10, 20):
        alarm.arm(start + delay * MS)
    await clock.forward(9 * MS)
    assert not rung
    await clock.forward(2 * MS)
    assert rung == [1]
    await clock.forward(90 * MS)
    assert rung == [1], "those asked for later are the caller's to ask for again"
    alarm.arm(clock.now_ns + MS)
    await clock.forward(2 * MS)
    assert rung == [1, 1]


@on_loop
async def test_a_time_that_is_over_and_one_that_is_cancelled(monkeypatch: pytest.MonkeyPatch):
    clock, rung = Clock(monkeypatch), []
    alarm = Alarm(lambda: rung.append(1))
    alarm.arm(clock.now_ns - MS)
    await clock.forward(0)
    assert rung == [1]
    alarm.arm(clock.now_ns + MS)
    alarm.cancel()
    alarm.cancel()
    await clock.forward(9 * MS)
    assert rung == [1]
    alarm.arm(clock.now_ns + MS)
    await clock.forward(9 * MS)
    assert rung == [1, 1]
