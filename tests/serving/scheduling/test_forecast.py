"""What runs will take: rows of a table, and what is learnt."""

from __future__ import annotations

import pytest

from edged.serving.scheduling.forecast import Forecast

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
        slow.learn(8 * MS, 1, 0, 0, is_queued=False)
        fast.learn(2 * MS, 1, 0, 0, is_queued=False)
    assert slow.likely_ns(1) == pytest.approx(8 * MS, rel=0.01)
    assert slow.least_ns(1) == 4 * MS
    assert fast.likely_ns(1) == 4 * MS
    assert fast.least_ns(1) == pytest.approx(2 * MS, rel=0.01)


def test_one_that_was_disturbed_changes_little_and_never_without_bounds():
    forecast = Forecast(COSTS)
    forecast.learn(8 * MS, 1, 0, 0, is_queued=False)
    assert forecast.likely_ns(1) == pytest.approx(4.5 * MS)
    for _ in range(10):
        forecast.learn(10**12, 1, 0, 0, is_queued=False)
    assert forecast.likely_ns(1) == 64 * MS


def test_a_queue_moves_as_it_moved_not_as_runs_last():
    """Runs of 4 ms each end every 12 ms, because two others use the device."""
    forecast, now = Forecast(COSTS[:1]), 10**9
    assert forecast.gap_ns(now, now) == 5 * MS, "as measured, with some slack"
    for _ in range(40):
        now += 12 * MS
        forecast.learn(4 * MS, 1, now, 10**9, is_queued=True)
    assert forecast.gap_ns(now, now) == pytest.approx(15 * MS)
    assert forecast.gap_ns(now + 2 * 10**9, now) == 5 * MS, "that was long ago"


@pytest.mark.parametrize("queued", [True, False])
def test_the_time_when_nothing_waited_is_not_counted(queued: bool):
    forecast = Forecast(COSTS[:1])
    for at in (4 * MS, 8 * MS, 500 * MS):
        forecast.learn(4 * MS, 1, at, at - 4 * MS, is_queued=queued)
    assert forecast.gap_ns(500 * MS, 500 * MS) == 5 * MS


def test_the_wait_for_a_slot_is_counted_also_of_one_alone():
    forecast = Forecast(COSTS[:1])
    for at in range(1, 60):
        forecast.learn(4 * MS, 1, at * 100 * MS, at * 100 * MS - 40 * MS, is_queued=False)
    assert forecast.gap_ns(5900 * MS, 5900 * MS) == pytest.approx(50 * MS)


def test_one_after_the_other_is_no_measure_of_two_at_once():
    """Runs of 4 ms, two at a time: while a queue lasts one ends every 2 ms."""
    alone, both = Forecast(COSTS[:1]), Forecast(COSTS[:1])
    for forecast, step, queued in ((alone, 20 * MS, False), (both, 2 * MS, True)):
        forecast.follow(1, 2)
        now = 10**9
        for _ in range(60):
            now += step
            forecast.learn(4 * MS, 1, now, now - 4 * MS, is_queued=queued)
        assert forecast.gap_ns(now, now) == pytest.approx(2.5 * MS, rel=0.01)


def test_small_batches_are_no_measure_of_full_ones():
    """A row alone ends every 10 ms, of which its run is 4; a full batch of 8 takes 14 more."""
    forecast, now = Forecast(COSTS), 10**9
    forecast.follow(8, 1)
    for _ in range(60):
        now += 10 * MS
        forecast.learn(4 * MS, 1, now, 10**9, is_queued=True)
    assert forecast.gap_ns(now, now) == pytest.approx(30 * MS)
    for _ in range(60):
        now += 48 * MS
        forecast.learn(36 * MS, 16, now, 10**9, is_queued=True)
    assert forecast.gap_ns(now, now) == pytest.approx(30 * MS), "one of 16 is two"


def test_a_queue_that_stands_still_is_known_before_anything_ends():
    forecast, now = Forecast(COSTS[:1]), 10**9
    for _ in range(60):
        now += 4 * MS
        forecast.learn(4 * MS, 1, now, 10**9, is_queued=True)
    assert forecast.gap_ns(now + 4 * MS, now) == pytest.approx(5 * MS)
    assert forecast.gap_ns(now + 84 * MS, now) == pytest.approx(17.5 * MS)
    assert forecast.gap_ns(now + 84 * MS, now + 84 * MS) == pytest.approx(5 * MS), "nobody waited"


def test_nothing_known_is_nothing_foreseen():
    assert Forecast().gap_ns(0, 0) == 0


def test_who_was_late_makes_it_more_careful_and_runs_and_time_less_so():
    forecast = Forecast(COSTS[:1])
    forecast.missed(0, 10)
    assert forecast.gap_ns(10, 10) == pytest.approx(6 * MS)
    assert forecast.slow_row_ns == pytest.approx(6 * MS)
    for now in range(11, 100):
        forecast.missed(now, now)
    assert forecast.gap_ns(100, 100) == 128 * MS, "not without bounds"
    now = 10**9
    for _ in range(17_000):
        now += 4_000
        forecast.learn(4_000, 1, now, now - 4_000, is_queued=False)
    assert forecast.slack == 1.25
    for late in range(100):
        forecast.missed(now + late, now + late)
    now += 240 * 10**9
    forecast.learn(4 * MS, 1, now, now - 4 * MS, is_queued=False)
    assert forecast.slack == 1.25, "four minutes later"


def test_all_that_were_late_for_one_reason_are_one_warning():
    forecast = Forecast(COSTS[:1])
    for since in range(400):
        forecast.missed(since, 1000)
    assert forecast.slack == pytest.approx(1.25 * 1.2**5)
    forecast.missed(1000, 2000)
    assert forecast.slack == pytest.approx(1.25 * 1.2**6), "let in since then"


@pytest.mark.parametrize("queued", [True, False])
def test_the_most_that_rows_may_cost_is_never_less_than_what_is_foreseen(queued: bool):
    """Who only looks whether there is any hurry must not miss one."""
    forecast, now = Forecast(COSTS), 10**9
    forecast.follow(4, 2)
    for run_ns, passed in ((4 * MS, 9 * MS), (40 * MS, 45 * MS), (1 * MS, 2 * MS)) * 5:
        now += passed
        forecast.learn(run_ns, 1, now, now - run_ns, is_queued=queued)
        forecast.missed(now, now)
        assert forecast.slow_gap_ns >= forecast.gap_ns(now, now)
        assert forecast.slow_row_ns >= forecast.gap_ns(now, now) / 4
        assert forecast.slow_row_ns >= forecast.likely_ns(1)
