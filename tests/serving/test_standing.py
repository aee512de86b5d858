"""Where a release is in its life: it moves by the table, and whoever looked it up can tell."""

from __future__ import annotations

import pytest

from edged.serving.lifecycle import Event, ReleaseKey, Snapshot, State
from edged.serving.standing import Standing


def test_it_moves_by_the_table_and_is_counted():
    standing, moves = Standing(ReleaseKey("gate", "d", ""), 3), Standing.moves
    assert standing.owner == 'model "gate" release 3'
    standing.move(Event.LOAD)
    standing.move(Event.FAIL, "no memory")
    assert (standing.state, standing.reason) == (State.FAILED, "no memory")
    assert (standing.counters.loads, standing.counters.load_failures) == (1, 1)
    assert Standing.moves == moves + 2
    with pytest.raises(AssertionError, match="warmed cannot happen in state failed"):
        standing.move(Event.WARMED)
    assert Standing.moves == moves + 2


def test_snapshot():
    standing = Standing(ReleaseKey("gate", "d", ""), 3)
    standing.in_flight, standing.retry_at_ns = 2, 77
    assert standing.snapshot(True) == Snapshot(standing.key, 3, State.NEW, True, 2, 77)
