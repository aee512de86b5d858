"""Bytes to frames: the same events however they arrive, and no length believed."""

from __future__ import annotations

import struct
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.errors import LocalProtocolError, RemoteProtocolError
from edged.protocol.frames import (
    _SCRATCH_BYTES,
    ALIGNMENT,
    HEADER_BYTES,
    FrameReader,
    Kind,
    Limits,
    encode_frame,
    padding,
)
from tests.fakes.wire import events, header, joined, only, pieces_of

SMALL = joined(encode_frame(Kind.CALL, 1, b"head", [b"12345678"]))
EMPTY = joined(encode_frame(Kind.HELLO, 0, b"", []))
ODD = joined(encode_frame(Kind.ERROR, 2**64 - 1, b"x" * 13, []))
LARGE = joined(encode_frame(Kind.INFER, 5, b"h" * 100, [bytes(range(256)) * 1024]))
EXACT = joined(encode_frame(Kind.RESULT, 6, b"", [b"z" * (_SCRATCH_BYTES - HEADER_BYTES)]))
ONE_MORE = joined(encode_frame(Kind.RESULT, 7, b"", [b"z" * (_SCRATCH_BYTES - HEADER_BYTES + 8)]))
STREAMS = {
    "small": SMALL,
    "empty": EMPTY,
    "odd head": ODD,
    "large": LARGE,
    "scratch": EXACT,
    "scratch + 8": ONE_MORE,
    "small between large": LARGE + SMALL + LARGE + EMPTY + ONE_MORE + ODD + EXACT,
    "many small": SMALL * 2000,
    "bad magic behind good frames": SMALL + LARGE + ODD + header(magic=b"HTTP"),
    "bad length behind a good frame": SMALL + header(body=2**63),
}


class TestLayout:
    def test_header_is_32_bytes_little_endian(self):
        """What docs/protocol.md says, without the code's own Struct."""
        data = joined(encode_frame(Kind.INFER, 0x0102030405060708, b"abc", [b"12345678"]))
        magic, version, kind, flags = struct.unpack_from("<4sBBH", data, 0)
        number, head, reserved, body = struct.unpack_from("<QIIQ", data, 8)
        assert (magic, version, kind, flags) == (b"EDGD", 1, 3, 0)
        assert (number, head, reserved, body) == (0x0102030405060708, 3, 0, 8)
        assert data[32:35] == b"abc"
        assert data[35:40] == bytes(5)
        assert data[40:] == b"12345678"

    @pytest.mark.parametrize(("size", "zeros"), [(0, 0), (1, 7), (7, 1), (8, 0), (9, 7)])
    def test_padding(self, size: int, zeros: int):
        assert padding(size) == zeros
        assert (size + padding(size)) % ALIGNMENT == 0

    @pytest.mark.parametrize("number", [-1, 2**64])
    def test_request_id_must_fit(self, number: int):
        with pytest.raises(LocalProtocolError, match="64 bits"):
            encode_frame(Kind.INFER, number, b"", [])


class TestSameEvents:
    @pytest.mark.parametrize("name", STREAMS)
    def test_whole_byte_by_byte_and_with_a_tail(self, name: str):
        data = STREAMS[name]
        whole = events([data])
        if len(data) < 1 << 19:
            step = 1 if len(data) < 10_000 else 997
            cut = [data[at : at + step] for at in range(0, len(data), step)]
            assert events(cut) == whole
        if not isinstance(whole[-1], str):
            assert events([data + SMALL[:20]]) == whole
            assert events([data + SMALL]) == [*whole, *events([SMALL])]

    @given(st.lists(st.sampled_from(sorted(STREAMS)), max_size=4), st.data())
    @settings(max_examples=40, deadline=None)
    def test_any_cuts(self, names: list[str], data: st.DataObject):
        stream = b"".join(STREAMS[name] for name in names)
        cuts = data.draw(st.lists(st.integers(0, max(len(stream), 1)), max_size=20))
        assert events(pieces_of(stream, cuts)) == events([stream])

    def test_two_and_a_half_frames_in_one_write(self):
        """SECURITY A: two and a half frames in one write -> two answers, then wait for the rest."""
        reader = FrameReader(Limits())
        data = SMALL + ODD + SMALL
        assert len(reader.feed(data[:-20])) == 2
        assert not reader.is_between_frames
        assert [frame.request_id for frame in reader.feed(data[-20:])] == [1]
        assert reader.is_between_frames

    def test_good_frames_before_a_bad_one_are_not_lost(self):
        reader = FrameReader(Limits())
        frames = reader.feed(SMALL + ODD + header(flags=1))
        assert [frame.request_id for frame in frames] == [1, 2**64 - 1]
        with pytest.raises(RemoteProtocolError, match="reserved"):
            reader.check()

    def test_inside_a_large_frame_is_not_between_frames(self):
        reader = FrameReader(Limits())
        assert reader.is_between_frames
        assert reader.feed(LARGE[:-1]) == []
        assert not reader.is_between_frames
        assert len(reader.feed(LARGE[-1:])) == 1
        assert reader.is_between_frames

    def test_reading_into_the_buffer_gives_the_same(self):
        """The way a transport does it: never more bytes than the buffer offers."""
        data = STREAMS["small between large"]
        reader = FrameReader(Limits())
        frames = []
        at = 0
        while at < len(data):
            buffer = reader.next_buffer()
            assert len(buffer) > 0
            part = data[at : at + len(buffer)]
            buffer[: len(part)] = part
            frames += reader.received(len(part))
            at += len(part)
        assert [(f.kind, f.request_id, bytes(f.head), bytes(f.body)) for f in frames] == events(
            [data]
        )


class TestMemory:
    @pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
    @pytest.mark.hostile("R8 lengths and shapes are copied out before they are checked")
    def test_a_frame_keeps_its_bytes_when_more_arrives(self, data: bytes):
        reader = FrameReader(Limits())
        (frame,) = reader.feed(data)
        before = bytes(frame.head), bytes(frame.body)
        reader.feed(joined(encode_frame(Kind.INFER, 9, b"!" * 4096, [b"?" * 32768])))
        assert (bytes(frame.head), bytes(frame.body)) == before
        assert frame.head.readonly
        assert frame.body.readonly

    def test_body_is_aligned(self):
        for size in range(9):
            frame = only(encode_frame(Kind.INFER, 1, b"h" * size, [b"12345678"]))
            assert bytes(frame.body) == b"12345678"

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (header(head=2**32 - 1), "a head of 4294967295 bytes; the limit is 65536"),
            (header(body=2**32 - 1), "a body of 4294967295 bytes"),
            (header(body=2**63), "a body of 9223372036854775808 bytes"),
            (header(body=2**64 - 1), "limits.max_request"),
        ],
    )
    @pytest.mark.hostile("A2 a length field of 2^32-1 or 2^63")
    def test_length_bomb(self, data: bytes, message: str):
        """SECURITY A: length field 2^32-1 or 2^63 -> refused before any allocation."""
        reader = FrameReader(Limits())
        tracemalloc.start()
        try:
            with pytest.raises(RemoteProtocolError, match=message):
                reader.feed(data)
            assert tracemalloc.get_traced_memory()[1] < 1 << 20
        finally:
            tracemalloc.stop()

    def test_limits_are_inclusive(self):
        """Control: at the limit it is taken, one past it not."""
        limits = Limits(head_bytes=8, body_bytes=16)
        assert only(encode_frame(Kind.INFER, 1, b"h" * 8, [b"b" * 16]), limits).body.nbytes == 16
        for buffers in (
            encode_frame(Kind.INFER, 1, b"h" * 9, []),
            encode_frame(Kind.INFER, 1, b"", [b"b" * 17]),
        ):
            with pytest.raises(RemoteProtocolError, match="the limit is"):
                FrameReader(limits).feed(joined(buffers))


class TestRefusals:
    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (header(magic=b"GET "), "does not start with EDGD"),
            (header(version=2), "protocol version 2; this side speaks 1"),
            (header(version=0), "protocol version 0"),
            *[(header(flags=1 << bit), "reserved bits") for bit in (0, 7, 15)],
            *[(header(reserved=1 << bit), "reserved bits") for bit in (0, 31)],
        ],
    )
    def test_bad_header(self, data: bytes, message: str):
        """SECURITY A: reserved flag bits set -> error, not ignored."""
        with pytest.raises(RemoteProtocolError, match=message):
            FrameReader(Limits()).feed(data)

    def test_unknown_kind_is_a_frame(self):
        """SECURITY A: unknown message type with valid length -> the stream goes on."""
        assert [event[0] for event in events([header(kind=99) + SMALL])] == [99, Kind.CALL]

    def test_broken_stays_broken(self):
        reader = FrameReader(Limits())
        for data in (header(version=9), SMALL, b""):
            with pytest.raises(RemoteProtocolError, match="protocol version 9"):
                reader.feed(data) if data else reader.check()

    @given(st.lists(st.binary(max_size=200), max_size=10))
    @settings(max_examples=200, deadline=None)
    def test_only_our_errors(self, pieces: list[bytes]):
        events(pieces)

    @given(
        st.tuples(*(st.integers(0, 2**bits - 1) for bits in (8, 8, 16, 64, 32, 32, 64))),
        st.binary(max_size=100),
    )
    @settings(max_examples=200, deadline=None)
    def test_only_our_errors_behind_the_magic(self, fields: tuple[int, ...], tail: bytes):
        data = struct.pack("<4sBBHQIIQ", b"EDGD", *fields) + tail
        found = events([data])
        assert found == events([data[:7], data[7:31], data[31:]])
        assert len(found) <= 4
