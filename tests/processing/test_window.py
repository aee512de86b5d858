"""Windows of rows: when one is whole, what stays, and that a state survives being kept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.outbox.age import Moment
from edged.processing.window import WindowRule, WindowState

S = 10**9


def rule(rows: int = 4, hop: int = 4, gap_s: float = 0, meaning: str = "json") -> WindowRule:
    return WindowRule(rows, hop, int(gap_s * S), (1,), "float32", meaning)


def at(seconds: float) -> Moment:
    return Moment(b"8 bytes.", int(seconds * S), 0)


def numbers(first: int, count: int) -> np.ndarray:
    return np.arange(first, first + count, dtype=np.float32).reshape(-1, 1)


@pytest.mark.parametrize(
    ("rows", "hop", "messages", "wanted", "left"),
    [
        (4, 4, [1, 1, 1], [], 3),
        (4, 4, [1, 1, 1, 1], [0], 0),
        (4, 2, [1] * 8, [0, 2, 4], 2),
        (4, 1, [4, 1, 1], [0, 1, 2], 3),
        (4, 4, [9], [0, 4], 1),
        (4, 3, [3, 8], [0, 3, 6], 2),
    ],
)
def test_when_a_window_is_whole(
    rows: int, hop: int, messages: list[int], wanted: list[int], left: int
) -> None:
    one, state, seen, sent = rule(rows, hop), None, [], 0
    for count in messages:
        state, windows = one.add(state, numbers(sent, count), at(sent))
        sent += count
        seen += [window[0, 0] for window in windows]
        assert all((window == numbers(int(window[0, 0]), rows)).all() for window in windows)
    assert seen == wanted
    assert state is not None
    assert len(state.rows) == left


@pytest.mark.parametrize(("gap_s", "silence_s", "left"), [(0, 1e6, 2), (5, 5, 2), (5, 5.1, 1)])
def test_a_key_that_was_silent_begins_anew(gap_s: float, silence_s: float, left: int) -> None:
    one = rule(gap_s=gap_s)
    state, _ = one.add(None, numbers(0, 1), at(10))
    assert one.is_broken(state, at(10 + silence_s)) is (left == 1)
    state, _ = one.add(state, numbers(1, 1), at(10 + silence_s))
    assert len(state.rows) == left


def test_adding_changes_nothing_that_was_there() -> None:
    one = rule(hop=1)
    before, _ = one.add(None, numbers(0, 3), at(0), b"a" * 16)
    after, windows = one.add(before, numbers(3, 1), at(1), b"b" * 16)
    windows[0][:] = -1
    assert before.rows.ravel().tolist() == [0, 1, 2]
    assert after.rows.ravel().tolist() == [1, 2, 3]
    assert (before.ids, after.ids) == ((b"a" * 16,), (b"a" * 16, b"b" * 16))


def test_so_many_messages_are_known_again() -> None:
    state: WindowState | None = None
    for number in range(200):
        state, _ = rule().add(state, numbers(0, 1), at(0), number.to_bytes(16, "big"))
    assert state is not None
    assert len(state.ids) == 128
    assert state.ids[-1] == (199).to_bytes(16, "big")


def test_rows_of_another_meaning_are_no_company() -> None:
    one = rule()
    state, _ = one.add(None, numbers(0, 3), at(7), b"i" * 16)
    kept = one.pack(state)
    found = one.unpack(kept)
    assert found is not None
    assert (found.rows == state.rows).all()
    assert found[1:] == state[1:]
    for other in (rule(meaning="cbor"), rule(rows=8), rule(hop=1)):
        assert other.unpack(kept) is None
        assert not other.fits(state)
    assert one.fits(state)


@given(st.binary(max_size=80))
def test_what_is_no_state_is_none(data: bytes) -> None:
    assert rule().unpack(data) is None


@given(
    st.integers(2, 9), st.data(), st.lists(st.integers(1, 12), max_size=20),
)  # fmt: skip
def test_any_messages_give_the_windows_of_the_whole(
    rows: int, data: st.DataObject, messages: list[int]
) -> None:
    hop = data.draw(st.integers(1, rows))
    one, state, seen, sent = rule(rows, hop), None, [], 0
    for count in messages:
        if state is not None and data.draw(st.booleans()):
            state = one.unpack(one.pack(state))
        state, windows = one.add(state, numbers(sent, count), at(sent))
        seen += [window.ravel().tolist() for window in windows]
        sent += count
    whole = [list(range(n, n + rows)) for n in range(0, sent - rows + 1, hop)]
    assert seen == whole
