"""Numbers out of numbers: small cases whose answer is plain."""

from __future__ import annotations

import pytest

from benchmarks.figures import median, paired_ratio, percentile, within


@pytest.mark.parametrize(
    ("values", "middle"), [([3], 3), ([5, 1, 3], 3), ([4, 1, 3, 2], 2.5), ([9, 9, 1], 9)]
)
def test_median(values: list[float], middle: float):
    assert median(values) == middle


@pytest.mark.parametrize(
    ("share", "value"), [(0.5, 50), (0.99, 99), (0.995, 100), (1, 100), (0.001, 1)]
)
def test_percentile_is_the_nearest_rank(share: float, value: int):
    assert percentile(list(range(100, 0, -1)), share) == value


@pytest.mark.parametrize("share", [0, -0.1, 1.01])
def test_percentile_of_a_senseless_share(share: float):
    with pytest.raises(ValueError, match="share"):
        percentile([1], share)


def test_nothing_has_no_middle():
    with pytest.raises(ValueError, match="no values"):
        median([])
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_rounds_are_compared_pair_by_pair():
    # A machine that was twice as slow in the second round: the ratio was 2 in each.
    assert paired_ratio([20, 40, 20], [10, 20, 10]) == 2
    # One disturbed round does not decide.
    assert paired_ratio([20, 400, 21], [10, 10, 10]) == 2.1
    with pytest.raises(ValueError, match="1 rounds"):
        paired_ratio([1], [1, 2])


def test_a_window_holds_what_was_under_way_in_it():
    trace = [(0, 5), (8, 4), (12, 3), (19, 1), (20, 5), (0, 100)]
    assert within(trace, 10, 20) == [4, 3, 1, 100]
