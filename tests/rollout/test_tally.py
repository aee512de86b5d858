"""Figures: what counts as a release's own failure, and percentiles near enough."""

from __future__ import annotations

import numpy as np
import pytest

from edged.errors import (
    CancelledError,
    DeadlineExceededError,
    InvalidRequestError,
    QueueFullError,
    RunError,
)
from edged.rollout.tally import Side, Tally, cell_of, longest_ns


@pytest.mark.parametrize("duration_ns", [0, 1, 7, 8, 9, 15, 16, 17, 1000, 999_999, 10**9, 2**39])
def test_a_cell_holds_its_time_and_little_more(duration_ns: int):
    cell = cell_of(duration_ns)
    assert duration_ns <= longest_ns(cell) <= duration_ns * 1.125 + 1
    assert cell == 0 or longest_ns(cell - 1) < duration_ns


def test_what_is_longer_than_all_cells():
    assert cell_of(2**50) == cell_of(2**60)


def test_percentile():
    side, chance = Side(), np.random.default_rng(1)
    times = (chance.lognormal(15, 1, 5000)).astype(int)
    for duration_ns in times.tolist():
        side.note(None, duration_ns)
    for part in (0.5, 0.9, 0.99):
        exact = float(np.quantile(times, part))
        assert exact * 0.98 <= side.percentile_ns(part) <= exact * 1.15
    assert Side().percentile_ns(0.99) == 0


@pytest.mark.parametrize(
    ("error", "is_own"),
    [
        (RunError("x"), True),
        (DeadlineExceededError("x"), True),
        (QueueFullError("x"), True),
        (InvalidRequestError("x"), False),
        (CancelledError("x"), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whose_failure_it_is(error: Exception, is_own: bool):
    side = Side()
    side.note(error, 5)  # type: ignore[arg-type]
    assert (side.answers, side.errors, side.timed) == ((1, 1, 0) if is_own else (0, 0, 0))


def test_sides_are_made_when_they_are_asked_for():
    tally = Tally()
    assert tally.side(3) is tally.side(3)
    assert list(tally.sides) == ["3"]
