"""When a changed directory may be read: rows of events in time, no clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.config.settle import Settler

MS = 1_000_000
SETTLE = 100 * MS


def run(events: list[tuple[int, str]], until_ms: int, step_ms: int = 5) -> list[int]:
    """Play events (ms, what) and return the moments, in ms, at which reading was due.

    ``w`` writes f, ``c`` closes it, ``m`` moves a file into place, ``x`` is a change of no file,
    ``o`` an overflow.
    """
    settler = Settler(SETTLE)
    todo = sorted(events, key=lambda event: event[0])
    taken = []
    for now in range(0, until_ms, step_ms):
        while todo and todo[0][0] <= now:
            at, what = todo.pop(0)
            if what == "w":
                settler.writing(at * MS, "f")
            elif what == "o":
                settler.forget_writers()
                settler.changed(at * MS)
            else:
                settler.changed(at * MS, {"c": "f", "m": "g"}.get(what))
        if settler.take(now * MS):
            taken.append(now)
    return taken


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([], []),
        ([(0, "m")], [100]),
        ([(0, "m"), (50, "m")], [150]),
        ([(0, "w"), (1, "c")], [105]),
        # truncate, then three pieces over 2 s, one close: never in between
        ([(0, "w"), (700, "w"), (1400, "w"), (2000, "w"), (2001, "c")], [2105]),
        # another file is ready meanwhile: it waits too, the directory is read as a whole
        ([(0, "w"), (500, "m"), (2000, "c")], [2100]),
        # a writer that never closes: 10 s after its last sign
        ([(0, "w"), (1000, "w")], [11_000]),
        ([(0, "w"), (1000, "w"), (12_000, "c")], [11_000, 12_100]),
        # the written file is replaced: its writer no longer matters
        ([(0, "w"), (200, "c"), (400, "m")], [300, 500]),
        ([(0, "w"), (10, "o")], [110]),
    ],
)
def test_rows(events: list[tuple[int, str]], expected: list[int]) -> None:
    assert run(events, 15_000) == expected


def test_endless_saves_do_not_starve() -> None:
    """Saves every 20 ms for 10 s: something is read at least once a second."""
    taken = run([(ms, "m") for ms in range(0, 10_000, 20)], 11_000)
    gaps = [b - a for a, b in zip([0, *taken], taken, strict=False)]
    assert max(gaps) <= 1025
    assert taken[-1] >= 9_980 + 100


def test_without_the_longest_wait_they_would() -> None:
    settler = Settler(SETTLE, max_delay_ns=10**18)
    for ms in range(0, 10_000, 20):
        settler.changed(ms * MS)
        assert not settler.take(ms * MS)


def test_in_place_saves_every_20_ms_do_not_starve() -> None:
    events = [(ms + at, what) for ms in range(0, 5000, 20) for at, what in ((0, "w"), (5, "c"))]
    taken = run(events, 6_000)
    assert len(taken) >= 5
    assert all(ms % 20 >= 5 for ms in taken if ms < 5000), "never between write and close"


@given(
    st.lists(st.tuples(st.integers(0, 3000), st.sampled_from("wcmxo")), max_size=40),
)
def test_every_change_is_read_once_it_rests(events: list[tuple[int, str]]) -> None:
    taken = run(events, 16_000)
    assert bool(taken) == bool(events)
    if events:
        assert taken[-1] >= max(at for at, _ in events)


@given(st.lists(st.tuples(st.integers(0, 3000), st.sampled_from("wc")), max_size=40))
def test_never_read_between_write_and_close(events: list[tuple[int, str]]) -> None:
    ordered = sorted(events, key=lambda event: event[0])
    for moment in run(ordered, 4_000, step_ms=1):
        before = [event for event in ordered if event[0] <= moment]
        assert before[-1][1] == "c"


def test_take_is_true_once() -> None:
    settler = Settler(SETTLE)
    settler.changed(0)
    assert settler.is_pending
    assert settler.due_ns() == SETTLE
    assert settler.take(SETTLE)
    assert not settler.take(SETTLE * 50)
    assert settler.due_ns() is None
    assert not settler.has_writers
