"""The latest columns of a joined topic: young enough, and the same after they were kept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.outbox.age import Moment
from edged.processing.latest import LatestRow, LatestRule

S = 10**9
RULE = LatestRule(2, "float32", 60 * S, "home/+/hum ('h',)")


def at(seconds: float) -> Moment:
    return Moment(b"8 bytes.", int(seconds * S), 0)


ROW = LatestRow(np.array([1, 2], np.float32), at(100), RULE.mark)


@pytest.mark.parametrize(("seconds", "counts"), [(100, True), (160, True), (160.1, False)])
def test_old_ones_do_not_count(seconds: float, counts: bool) -> None:
    assert RULE.counts(ROW, at(seconds)) is counts
    assert LatestRule(2, "float32", 0, "").counts(ROW, at(seconds + 1e6))


def test_kept_and_read_again() -> None:
    kept = RULE.pack(ROW)
    found = RULE.unpack(kept)
    assert found is not None
    assert (found.row == ROW.row).all()
    assert found.at == ROW.at
    others = [
        LatestRule(1, "float32", 0, RULE.meaning), LatestRule(2, "int32", 0, RULE.meaning),
        LatestRule(2, "float32", 0, "other"),
    ]  # fmt: skip
    assert [other.unpack(kept) for other in others] == [None] * 3
    assert [other.fits(ROW) for other in (*others, RULE)] == [False] * 3 + [True]


@given(st.binary(max_size=80))
def test_what_is_none_is_none(data: bytes) -> None:
    assert RULE.unpack(data) is None
