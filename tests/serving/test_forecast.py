"""What runs will take: rows of a table, and what is learnt."""

from __future__ import annotations

import pytest

from edged.serving.forecast import Forecast

MS = 1_000_000
COSTS = ((1, 4 * MS), (2, 6 * MS), (4, 10 * MS), (8, 18 * MS))


@pytest.mark.parametrize(
    ("costs", "rows", "ns"),
    [
        (COSTS, 1, 4 * MS),
        (COSTS, 2, 6 * MS),
        (COSTS, 3, 8 * MS),
        (COSTS, 6, 14 * MS),
        (COSTS, 8, 18 * MS),
        (COSTS, 16, 36 * MS),
        (((1, 4 * MS),), 3, 12 * MS),
        ((), 5, 0),
    ],
)
def test_by_rows(costs: tuple, rows: int, ns: int):
    forecast = Forecast(costs)
    assert forecast.likely_ns(rows) == forecast.least_ns(rows) == ns


def test_a_whole_call_takes_what_it_takes():
    assert Forecast(COSTS[:1], is_row_wise=False).likely_ns(30) == 4 * MS


def test_what_runs_took_lately_counts_on_the_safe_side():
    slow, fast = Forecast(COSTS), Forecast(COSTS)
    for _ in range(60):
        slow.learn(8 * MS, 1, 0, is_queued=False)
        fast.learn(2 * MS, 1, 0, is_queued=False)
    assert slow.likely_ns(1) == pytest.approx(8 * MS, rel=0.01)
    assert slow.least_ns(1) == 4 * MS
    assert fast.likely_ns(1) == 4 * MS
    assert fast.least_ns(1) == pytest.approx(2 * MS, rel=0.01)


def test_one_that_was_disturbed_changes_little_and_never_without_bounds():
    forecast = Forecast(COSTS)
    forecast.learn(8 * MS, 1, 0, is_queued=False)
    assert forecast.likely_ns(1) == pytest.approx(4.5 * MS)
    for _ in range(10):
        forecast.learn(10**12, 1, 0, is_queued=False)
    assert forecast.likely_ns(1) == 64 * MS


def test_a_queue_moves_as_it_moved_not_as_runs_last():
    """Runs of 4 ms each end every 12 ms, because two others use the device."""
    forecast, now = Forecast(COSTS[:1]), 0
    assert forecast.row_ns(1, now) == 5 * MS, "as measured, with some slack"
    for _ in range(20):
        now += 12 * MS
        forecast.learn(4 * MS, 1, now, is_queued=True)
    assert forecast.row_ns(1, now) == pytest.approx(15 * MS)
    assert forecast.row_ns(1, now + 2 * 10**9) == 5 * MS, "that was long ago"


def test_the_time_when_nothing_waited_is_not_counted():
    forecast = Forecast(COSTS[:1])
    forecast.learn(4 * MS, 1, 4 * MS, is_queued=True)
    forecast.learn(4 * MS, 1, 8 * MS, is_queued=False)
    forecast.learn(4 * MS, 1, 500 * MS, is_queued=True)
    assert forecast.row_ns(1, 500 * MS) == 5 * MS


def test_nothing_known_is_nothing_foreseen():
    assert Forecast().row_ns(32, 0) == 0


def test_who_was_late_makes_it_more_careful_and_who_ran_less_so():
    forecast = Forecast(COSTS[:1])
    forecast.missed(1, 0)
    assert forecast.row_ns(1, 0) == pytest.approx(5.5 * MS)
    assert forecast.slow_row_ns == pytest.approx(5.5 * MS)
    for _ in range(100):
        forecast.missed(1, 0)
    assert forecast.row_ns(1, 0) == 16 * MS, "not without bounds"
    for _ in range(6000):
        forecast.learn(4 * MS, 1, 0, is_queued=False)
    assert forecast.row_ns(1, 0) == 5 * MS


@pytest.mark.parametrize("queued", [True, False])
def test_the_most_that_a_row_may_cost_is_never_less_than_what_is_foreseen(queued: bool):
    """Who only looks whether there is any hurry must not miss one."""
    forecast, now = Forecast(COSTS), 0
    for run_ns, passed in ((4 * MS, 9 * MS), (40 * MS, 45 * MS), (1 * MS, 2 * MS)) * 5:
        now += passed
        forecast.learn(run_ns, 1, now, is_queued=queued)
        forecast.missed(1, now)
        assert forecast.slow_row_ns >= forecast.row_ns(8, now)
        assert forecast.slow_row_ns >= forecast.likely_ns(1)
