"""Worker processes and their shares: each byte once."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.device.memory import Taken
from edged.loading import Footprint
from edged.pages import hosted
from edged.pages.hosted import shared_out, workers
from edged.serving.lifecycle import ReleaseKey


class Release:
    def __init__(self, name: str, pid: int, held: int | None) -> None:
        self.key, self.number, self.worker_pid = ReleaseKey(name, "d", ""), 1, pid
        self.footprint = None if held is None else Footprint(held, held)


@given(st.integers(0, 1 << 40), st.lists(st.integers(0, 1 << 40), min_size=1, max_size=9))
def test_nothing_is_lost_or_counted_twice(total: int, weights: list[int]):
    shares = shared_out(total, weights)
    assert sum(shares) == total
    assert len(shares) == len(weights)
    assert all(share >= 0 for share in shares)
    if any(weights):
        for share, weight in zip(shares, weights, strict=True):
            assert abs(share - total * weight / sum(weights)) <= 1 + total * 1e-9


def test_by_process(monkeypatch: pytest.MonkeyPatch):
    looked: list[int] = []

    def taken(pid: int) -> Taken | None:
        looked.append(pid)
        return None if pid == 9 else Taken(90, 0, 0)

    monkeypatch.setattr(hosted, "taken", taken)
    found = workers(
        [Release("a", 7, 20), Release("in", 0, 50), Release("b", 7, 10), Release("c", 9, 5)]
    )
    assert looked == [7, 9], "one look at each"
    assert [one.as_dict() for one in found] == [
        {
            "pid": 7,
            "private_bytes": 90,
            "releases": [
                {"model": "a", "release": 1, "bytes": 60},
                {"model": "b", "release": 1, "bytes": 30},
            ],
        },
        {
            "pid": 9,
            "private_bytes": None,
            "releases": [{"model": "c", "release": 1, "bytes": None}],
        },
    ]


def test_a_real_process():
    (one,) = workers([Release("a", os.getpid(), None), Release("b", os.getpid(), None)])
    sizes = [size for _, size in one.shares()]
    assert sizes[0] > 1 << 20
    assert abs(sizes[0] - sizes[1]) <= 1, "evenly where nothing is known"
