"""Frames are cut the same way however they arrive, and long ones are refused unread."""

from __future__ import annotations

import itertools
from itertools import starmap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.protocol.http2_frames import (
    DATA_BYTES,
    END_STREAM,
    FRAME_BYTES,
    PADDED,
    BrokenConnectionError,
    Frame,
    FrameReader,
    Reason,
    Type,
    encode,
    encode_goaway,
    encode_window,
    head_of,
)
from tests.fakes.http2 import whole

FRAMES = (
    encode(Type.HEADERS, 0x4, 1, b"abc")
    + encode(Type.DATA, 0, 1, b"0123456789" * 30)
    + encode(Type.DATA, PADDED, 1, b"\x03data" + bytes(3))
    + encode(Type.DATA, PADDED, 1, b"\x00")
    + encode(0x55, 0, 7, b"nobody knows")
    + encode(Type.DATA, END_STREAM, 1)
    + encode_window(0, 9)
)


def cut(pieces: list[bytes]) -> list[tuple[int, int, int, bytes]]:
    """Frames with their payloads put together."""
    reader, found, body = FrameReader(), [], b""
    for piece in pieces:
        for frame in starmap(Frame, reader.feed(piece)):
            body += frame.payload
            if frame.is_last:
                found.append((frame.type, frame.flags, frame.stream, body))
                body = b""
    assert reader.is_between_frames
    return found


def test_what_is_in_them():
    found = cut([FRAMES])
    assert [one[3] for one in found] == [
        b"abc", b"0123456789" * 30, b"data", b"", b"", b"", b"\x00\x00\x00\x09",
    ]  # fmt: skip
    assert found[0][:3] == (Type.HEADERS, 4, 1)


@settings(max_examples=40)
@given(st.lists(st.integers(0, len(FRAMES)), max_size=12))
def test_cuts_change_nothing(cuts: list[int]):
    at = [0, *sorted(cuts), len(FRAMES)]
    assert cut([FRAMES[a:b] for a, b in itertools.pairwise(at)]) == cut([FRAMES])


def test_byte_by_byte():
    assert cut([FRAMES[at : at + 1] for at in range(len(FRAMES))]) == cut([FRAMES])


def test_data_is_passed_on_before_it_is_whole():
    reader = FrameReader()
    first = list(starmap(Frame, reader.feed(head_of(Type.DATA, 0, 1, 100) + b"ab")))
    assert [(f.payload, f.size, f.is_last) for f in first] == [(b"ab", 100, False)]
    assert not reader.is_between_frames
    rest = list(starmap(Frame, reader.feed(bytes(98))))
    assert [(len(f.payload), f.size, f.is_last) for f in rest] == [(98, 0, True)]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (head_of(Type.HEADERS, 0, 1, FRAME_BYTES + 1), Reason.FRAME_SIZE_ERROR),
        (head_of(Type.DATA, 0, 1, DATA_BYTES + 1), Reason.FRAME_SIZE_ERROR),
        (head_of(0x55, 0, 1, FRAME_BYTES + 1), Reason.FRAME_SIZE_ERROR),
        (encode(Type.DATA, PADDED, 1), Reason.FRAME_SIZE_ERROR),
        (encode(Type.DATA, PADDED, 1, b"\x05abcd"), Reason.PROTOCOL_ERROR),
    ],
)
def test_refused(data: bytes, reason: Reason):
    with pytest.raises(BrokenConnectionError) as caught:
        list(FrameReader().feed(data))
    assert caught.value.reason is reason


def test_last_words_are_short():
    [frame] = whole(FrameReader(), [encode_goaway(7, Reason.NO_ERROR, "ä" * 5000)])
    assert frame.payload[:8] == bytes([0, 0, 0, 7, 0, 0, 0, 0])
    assert len(frame.payload) == 208
