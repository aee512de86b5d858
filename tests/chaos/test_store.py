"""The power cut in the store's steps in short, and its control; ``make chaos-store`` is the long one."""

from __future__ import annotations

import pytest

from tests.chaos.images import problem
from tests.chaos.store import cuts

pytestmark = [
    pytest.mark.broker,
    pytest.mark.slow,
    pytest.mark.timeout(400),
]


@pytest.fixture(autouse=True)
def can_be_cut() -> None:
    if reason := problem():
        pytest.skip(reason)


@pytest.mark.hostile("G18 killed at each step of activation")
def test_old_or_new_after_each_of_fifty_cuts() -> None:
    found = cuts(50, 1, whole_every=25)
    words = "\n".join(found.lines())
    assert found.is_good, words
    assert (found.cuts, found.whole) == (50, 2), words
    assert min(found.before, found.after) >= 5, words
    assert len(found.points) >= 20, words


def test_control_syncs_that_only_pretend_are_noticed() -> None:
    found = cuts(4, 1, pretends=True)
    assert found.lost, "\n".join(found.lines())
