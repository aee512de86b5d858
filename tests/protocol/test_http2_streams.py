"""How streams are answered, and how they end."""

from __future__ import annotations

import pytest

from edged.protocol.http2_frames import (
    END_STREAM,
    Reason,
    Setting,
    Type,
    encode,
    encode_reset,
    encode_settings,
    encode_window,
)
from edged.protocol.http2_headers import STATUS_200, encode_header
from tests.fakes.http2 import Rig

TAIL = encode_header(b"grpc-status", b"0")


def types(rig: Rig) -> list[tuple[int, int, bytes]]:
    return [(frame.type, frame.stream, frame.payload) for frame in rig.taken()]


def test_a_small_answer():
    rig = Rig()
    stream = rig.open(1, b"ask")
    rig.streams.answer(stream, STATUS_200, [b"an", memoryview(b"swer")], 6, TAIL)
    frames = rig.taken()
    assert [f.type for f in frames] == [Type.HEADERS, Type.DATA, Type.HEADERS]
    assert rig.decoder.decode(frames[0].payload) == [(":status", "200")]
    assert frames[1].payload == b"answer"
    assert frames[2].flags & END_STREAM
    assert rig.streams.by_number == {}


def test_a_long_answer_waits_for_windows():
    rig = Rig()
    stream = rig.open(1, b"ask")
    rig.streams.answer(stream, STATUS_200, [b"x" * 100_000], 100_000, TAIL)
    assert [(f.type, len(f.payload)) for f in rig.taken()][1:] == [(0, 16384)] * 3 + [(0, 16383)]
    rig.feed(encode_window(0, 50_000) + encode_window(1, 50_000))
    frames = rig.taken()
    assert sum(len(f.payload) for f in frames if f.type == 0) == 100_000 - 65535
    assert (frames[-1].type, frames[-1].flags & END_STREAM) == (Type.HEADERS, END_STREAM)
    assert rig.streams.by_number == {}


def test_an_early_answer_ends_the_request_too():
    rig = Rig()
    stream = rig.open(1)
    rig.streams.finish(stream, STATUS_200 + TAIL)
    frames = rig.taken()
    assert (frames[-1].type, frames[-1].payload) == (Type.RST_STREAM, bytes(4))
    # What was on its way is nobody's fault.
    rig.feed(encode(Type.DATA, 0, 1, b"late") + encode(Type.DATA, END_STREAM, 1, b"late"))
    rig.feed(encode_window(1, 5) + encode_reset(1, Reason.CANCEL))
    assert (rig.taken(), rig.reason) == ([], None)


def test_reset_by_us():
    rig = Rig()
    stream = rig.open(1)
    rig.streams.reset(stream, Reason.INTERNAL_ERROR)
    rig.streams.reset(stream, Reason.INTERNAL_ERROR)
    assert rig.resets() == {1: Reason.INTERNAL_ERROR}
    assert rig.asked.reset == []


@pytest.mark.hostile("W1 streams that are opened and reset at once (CVE-2023-44487)")
def test_who_gave_up_still_counts_until_released():
    """A call that was withdrawn is not free before whoever answers it has let go of it."""
    rig = Rig()
    rig.open(1)
    rig.feed(encode_reset(1, Reason.CANCEL))
    assert (rig.asked.reset, rig.streams.by_number, rig.streams.busy) == ([1], {}, 1)
    rig.streams.release()
    assert rig.streams.busy == 0


@pytest.mark.parametrize("size", [0, 100, 4095])
def test_a_client_with_a_smaller_table_is_told(size: int):
    rig = Rig()
    stream = rig.open(1, b"ask")
    rig.streams.begin(stream, STATUS_200)
    rig.streams.send(stream, [b"x" * 70_000])
    rig.streams.finish(stream, TAIL)
    rig.taken()
    rig.feed(encode_settings({Setting.HEADER_TABLE_SIZE: size}))
    rig.feed(encode_window(0, 70_000) + encode_window(1, 70_000))
    assert rig.taken()[-1].payload == b"\x20" + TAIL
    other = rig.open(3, b"ask")
    rig.streams.answer(other, STATUS_200, [b""], 0, TAIL)
    assert rig.taken()[0].payload == b"\x20" + STATUS_200


def test_leave_to_send_more():
    rig = Rig()
    stream = rig.open(1)
    rig.streams.grant(stream, 1000)
    assert types(rig) == [(Type.WINDOW_UPDATE, 1, b"\x00\x00\x03\xe8")]
