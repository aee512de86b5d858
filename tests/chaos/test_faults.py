"""The plan of faults: so many, from the seed alone, and a third of them long."""

from __future__ import annotations

import pytest

from tests.chaos.faults import LONG_S, plan


@pytest.mark.parametrize("seed", range(20))
def test_the_plan_of_twenty_minutes(seed: int) -> None:
    faults = plan(seed, 320, 1200)
    assert faults == plan(seed, 320, 1200)
    assert faults != plan(seed + 1, 320, 1200)
    assert len(faults) == 320
    assert [one.at_s for one in faults] == sorted(one.at_s for one in faults)
    assert faults[-1].at_s <= 1200
    assert sum(one.is_long for one in faults) >= 320 / 3 - 5
    assert {one.kind for one in faults} == {"daemon_kill", "broker_stop", "broker_kill", "cut"}


@pytest.mark.parametrize("seed", range(20))
def test_no_two_on_one_broker_at_a_time(seed: int) -> None:
    busy = {0: 0.0, 1: 0.0}
    for one in plan(seed, 320, 1200):
        if one.kind != "daemon_kill":
            assert one.at_s >= busy[one.target]
            busy[one.target] = one.at_s + one.lasts_s
            assert one.is_long == (one.lasts_s >= LONG_S[0])
