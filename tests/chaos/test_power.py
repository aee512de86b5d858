"""The power cut of the whole daemon in short, and its control; ``make chaos-power`` is the long one."""

from __future__ import annotations

import pytest

from tests.chaos.images import problem
from tests.chaos.power import cuts

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(autouse=True)
def can_be_cut() -> None:
    if reason := problem():
        pytest.skip(reason)


def test_nothing_that_was_acknowledged_is_lost() -> None:
    found = cuts(20, 1, whole_every=15)
    words = "\n".join(found.lines())
    assert (found.lost, found.whole_lost, found.problems) == (0, 0, []), words
    assert found.owed > 500, words
    assert found.whole == 1, words


def test_control_syncs_that_only_pretend_are_noticed() -> None:
    found = cuts(3, 1, pretends=True)
    assert found.lost > 10, "\n".join(found.lines())
