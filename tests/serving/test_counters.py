"""Counting: every time in its cell, every answer under its transport and code."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.errors import Code, QueueFullError, RunError
from edged.serving.counters import Counters, transport_of
from edged.serving.lifecycle import Event
from edged.telemetry.exposition import CELLS


@given(st.integers(0, 2**63))
def test_a_time_is_in_the_cell_whose_bounds_hold_it(time_ns: int):
    counters = Counters()
    counters.waited(time_ns)
    cell = counters.queue_times.index(1)
    assert time_ns <= 2**cell
    assert cell <= 1 or time_ns > 2 ** (cell - 1)
    assert counters.queue_ns == time_ns
    assert sum(counters.queue_times) == 1


def test_answers_by_transport_and_code():
    counters = Counters()
    counters.answered("uds:1000", None, 5)
    counters.answered("uds:1001", RunError("x"), 7)
    counters.answered("mqtt:gate", QueueFullError("x"), 9)
    counters.ran(1000, 3)
    assert counters.transports == {"uds": 2, "mqtt": 1}
    assert counters.failed == {Code.INTERNAL: 1, Code.RESOURCE_EXHAUSTED: 1}
    assert counters.duration_ns == 21
    assert sum(counters.durations) == 3
    assert counters.as_dict() == {
        "requests": 3,
        "failures": 2,
        "rows": 3,
        "batches": 1,
        "run_ns": 1000,
        "queue_ns": 0,
        "inline_batches": 0,
    }
    assert len(counters.run_times) == CELLS


def test_loads_and_their_failures():
    counters = Counters()
    for event in (Event.LOAD, Event.FAIL, Event.LOAD, Event.LOADED, Event.WARMED, Event.RETIRE):
        counters.moved(event)
    assert (counters.loads, counters.load_failures) == (2, 1)


@pytest.mark.parametrize(
    ("origin", "transport"), [("uds:0", "uds"), ("mqtt:a-b", "mqtt"), ("local", "local")]
)
def test_the_transport_never_carries_what_a_peer_chose(origin: str, transport: str):
    assert transport_of(origin) == transport


def test_a_thousand_users_leave_nothing_behind():
    counters = Counters()
    for user in range(1000):
        counters.answered(f"uds:{user}", None, 5)
        counters.answered("mqtt:gate", None, 5)
    assert counters.transports == {"uds": 1000, "mqtt": 1000}
    assert counters.requests == 2000
    assert len(counters._origins) <= 64


def test_served_is_waited_and_answered():
    apart, together = Counters(), Counters()
    for origin, waited_ns, duration_ns in [("uds:1", 5, 900), ("mqtt:a", 0, 1), ("uds:1", 70, 71)]:
        apart.waited(waited_ns)
        apart.answered(origin, None, duration_ns)
        together.served(origin, waited_ns, duration_ns)
    assert [getattr(apart, name) for name in Counters.__slots__] == [
        getattr(together, name) for name in Counters.__slots__
    ]
