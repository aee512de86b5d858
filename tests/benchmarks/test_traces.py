"""Traces and their fewest loads: small ones that one can count."""

from __future__ import annotations

from collections import Counter
from itertools import product

import pytest

from benchmarks.traces import belady, least_recent, zipf


@pytest.mark.parametrize(
    ("trace", "room", "loads"),
    [
        ([1, 2, 3, 1, 2, 3], 3, 3),
        ([1, 2, 3, 1, 2, 3], 2, 4),
        ([1, 2, 1, 3, 1, 2], 1, 6),
        ([], 1, 0),
    ],
)
def test_belady(trace: list[int], room: int, loads: int):
    assert belady(trace, room) == loads


def fewest(trace: tuple[int, ...], room: int) -> int:
    """By trying everything."""
    states = {frozenset[int](): 0}
    for model in trace:
        after: dict[frozenset[int], int] = {}
        for inside, loads in states.items():
            kept = (
                [inside]
                if model in inside or len(inside) < room
                else [inside - {gone} for gone in inside]
            )
            for rest in kept:
                now = rest | {model}
                cost = loads + (model not in inside)
                after[now] = min(cost, after.get(now, cost))
        states = after
    return min(states.values())


def test_nothing_is_better_than_belady():
    for trace in product(range(3), repeat=6):
        assert belady(trace, 2) == fewest(trace, 2)
        assert least_recent(trace, 2) >= belady(trace, 2)


def test_least_recent():
    assert least_recent([1, 2, 3, 1, 2, 3], 2) == 6
    assert least_recent([1, 2, 1, 3, 1], 2) == 3


def test_zipf_is_the_same_again_and_has_favourites():
    trace = zipf(10, 5000, 3)
    assert trace == zipf(10, 5000, 3)
    counts = [count for _, count in Counter(trace).most_common()]
    assert len(counts) == 10
    assert counts[0] / counts[1] == pytest.approx(2, rel=0.2)
    assert counts[0] / counts[9] == pytest.approx(10, rel=0.35)
