"""What leaves when windows are small, and in which order."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.protocol.frames import Buffer
from edged.protocol.http2_frames import (
    WINDOW_CAP,
    BrokenConnectionError,
    BrokenStreamError,
    FrameReader,
)
from edged.protocol.http2_outflow import Outflow, Waiting
from tests.fakes.http2 import whole


def sent(out: list[Buffer]) -> list[tuple[int, bytes]]:
    frames = [(frame.stream, frame.payload) for frame in whole(FrameReader(), out)]
    out.clear()
    return frames


def test_cut_by_window_and_frame():
    out: list[Buffer] = []
    flow = Outflow(out)
    one = Waiting(1, 20_000)
    flow.put(one, [b"a" * 10_000, b"b" * 15_000])
    assert [(n, len(data)) for n, data in sent(out)] == [(1, 16384), (1, 20_000 - 16384)]
    assert flow.waiting_bytes == one.size == 5000
    assert not flow.end(one, b"")
    flow.grow_stream(one, 1_000_000)
    assert sent(out) == [(1, b"b" * 5000)]
    assert flow.ended == [one]
    assert flow.is_empty


def test_streams_take_turns_at_the_connections_window():
    out: list[Buffer] = []
    flow = Outflow(out)
    ones = [Waiting(number, 1 << 20) for number in (1, 3, 5)]
    flow.window = 0
    for one in ones:
        flow.put(one, [b"x" * 200_000])
    assert sent(out) == []
    for _ in range(3):
        flow.grow(4 * 16384)
    assert sorted(number for number, _ in sent(out)) == [1] * 4 + [3] * 4 + [5] * 4


def test_one_without_a_window_stops_nobody():
    out: list[Buffer] = []
    flow = Outflow(out)
    shut, open_ = Waiting(1, 0), Waiting(3, 100)
    flow.put(shut, [b"shut"])
    flow.put(open_, [b"open"])
    assert sent(out) == [(3, b"open")]
    flow.drop(shut)
    assert (flow.waiting_bytes, flow.is_empty) == (0, True)


def test_tiny_frames_are_counted():
    flow = Outflow([])
    one = Waiting(1, 1)
    flow.put(one, [b"abc"])
    flow.grow_stream(one, 1)
    assert flow.small_frames == 2


@pytest.mark.parametrize("size", [0, WINDOW_CAP])
def test_windows_have_an_end(size: int):
    flow = Outflow([])
    with pytest.raises(BrokenConnectionError):
        flow.grow(size)
    with pytest.raises(BrokenStreamError):
        flow.grow_stream(Waiting(1, 1), size)


@settings(max_examples=40)
@given(
    st.lists(st.binary(max_size=50), max_size=6),
    st.lists(st.tuples(st.booleans(), st.integers(1, 40)), max_size=40),
)
def test_bytes_and_windows_are_kept(parts: list[bytes], grown: list[tuple[bool, int]]):
    out: list[Buffer] = []
    flow = Outflow(out)
    one, flow.window = Waiting(1, 5), 7
    most_stream, most = 5, 7
    flow.put(one, list(parts))
    for is_stream, size in grown:
        if is_stream:
            flow.grow_stream(one, size)
            most_stream += size
        else:
            flow.grow(size)
            most += size
    data = b"".join(payload for _, payload in sent(out))
    whole_ = b"".join(parts)
    assert data == whole_[: min(most, most_stream)]
    assert flow.waiting_bytes == len(whole_) - len(data)
