"""A connection, rule by rule, as h2spec asks for them; and the floods."""

from __future__ import annotations

import itertools

import h2.config
import h2.connection
import h2.events
import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.protocol.http2 import Connection
from edged.protocol.http2_frames import (
    ACK,
    DATA_BYTES,
    END_HEADERS,
    END_STREAM,
    PREFACE,
    PRIORITY,
    Reason,
    Setting,
    Type,
    encode,
    encode_goaway,
    encode_reset,
    encode_settings,
    encode_window,
)
from edged.protocol.http2_headers import STATUS_200, encode_header
from edged.protocol.http2_streams import STREAM_ROOM, STREAMS_CAP
from tests.fakes.http2 import HEADERS, Asked, Rig

PING = encode(Type.PING, 0, 0, b"12345678")


def test_another_library_as_the_client():
    asked = Asked()
    ours = Connection(asked)
    client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    client.initiate_connection()
    events: list[object] = []

    def pump() -> None:
        ours.receive(client.data_to_send(), 0)
        events.extend(client.receive_data(b"".join(ours.out)))
        ours.out.clear()

    pump()
    pump()
    body = bytes(range(256)) * 2000
    for number in (1, 3):
        client.send_headers(number, HEADERS)
        rest = body
        while rest:
            size = min(client.local_flow_control_window(number), client.max_outbound_frame_size) - 8
            if size <= 0:
                ours.streams.grant(asked.opened[-1], 100_000)
                pump()
                continue
            client.send_data(number, rest[:size], pad_length=7)
            rest = rest[size:]
            pump()
        client.end_stream(number)
        pump()
        assert asked.bodies[number] == body
        ours.streams.answer(
            asked.opened[-1], STATUS_200, [body], len(body), encode_header(b"grpc-status", b"0")
        )
        pump()
        data = b""
        while not any(
            isinstance(e, h2.events.StreamEnded) and e.stream_id == number for e in events
        ):
            for event in events:
                if isinstance(event, h2.events.DataReceived):
                    data += event.data
                    client.acknowledge_received_data(event.flow_controlled_length, number)
            events[:] = [e for e in events if not isinstance(e, h2.events.DataReceived)]
            pump()
        data += b"".join(e.data for e in events if isinstance(e, h2.events.DataReceived))
        assert data == body
        events.clear()
    client.ping(b"12345678")
    pump()
    assert [type(e) for e in events][-1:] == [h2.events.PingAckReceived]


def broken(data: bytes, *, reason: Reason, greets: bool = True) -> None:
    rig = Rig(greets=greets)
    if not greets:
        rig.taken()
    rig.feed(data)
    assert rig.reason is reason
    last = rig.taken()[-1]
    assert (last.type, last.payload[4:8]) == (Type.GOAWAY, reason.to_bytes(4, "big"))
    rig.feed(PING)
    assert rig.taken() == []


class TestBeginning:
    def test_we_greet(self) -> None:
        frames = Rig(greets=False).taken()
        assert [frame.type for frame in frames] == [Type.SETTINGS, Type.WINDOW_UPDATE]

    @pytest.mark.parametrize(
        "data", [b"GET / HTTP/1.1\r\n", b"\x00" * 24, PREFACE + PING,
                 PREFACE + encode(Type.SETTINGS, ACK, 0)],
    )  # fmt: skip
    def test_no_http2(self, data: bytes) -> None:
        broken(data, reason=Reason.PROTOCOL_ERROR, greets=False)

    def test_not_whole(self) -> None:
        rig = Rig(greets=False)
        data = PREFACE + encode_settings({})
        for at in range(len(data)):
            assert not rig.connection.is_between
            rig.feed(data[at : at + 1])
        assert rig.connection.is_between


def bare(number: int, flags: int = END_HEADERS, block: bytes | None = None) -> bytes:
    made = hpack.Encoder().encode(HEADERS) if block is None else block
    return encode(Type.HEADERS, flags, number, made)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (encode(Type.DATA, 0, 0, b"x"), Reason.PROTOCOL_ERROR),
        (encode(Type.DATA, 0, 1, b"x"), Reason.PROTOCOL_ERROR),
        (bare(0), Reason.PROTOCOL_ERROR),
        (bare(2), Reason.PROTOCOL_ERROR),
        (bare(1, 0) + PING, Reason.PROTOCOL_ERROR),
        (bare(1, 0) + encode(Type.CONTINUATION, END_HEADERS, 3), Reason.PROTOCOL_ERROR),
        (encode(Type.CONTINUATION, END_HEADERS, 1), Reason.PROTOCOL_ERROR),
        (bare(5) + bare(3), Reason.STREAM_CLOSED),
        (bare(1) + encode_reset(1, Reason.CANCEL) + bare(1, END_HEADERS | END_STREAM), Reason.STREAM_CLOSED),
        (bare(1, END_HEADERS, b"\xff\xff\xff"), Reason.COMPRESSION_ERROR),
        (bare(1, END_HEADERS | PRIORITY, b"\x00\x00\x00\x01\x10"), Reason.PROTOCOL_ERROR),
        (bare(1, END_HEADERS | PRIORITY, b"\x00"), Reason.FRAME_SIZE_ERROR),
        (bare(1, END_HEADERS | 0x8, b"\x09abc"), Reason.PROTOCOL_ERROR),
        (encode(Type.PRIORITY, 0, 0, bytes(5)), Reason.PROTOCOL_ERROR),
        (encode(Type.PRIORITY, 0, 1, b"\x00\x00\x00\x01\x10"), Reason.PROTOCOL_ERROR),
        (encode_reset(0, Reason.CANCEL), Reason.PROTOCOL_ERROR),
        (encode_reset(1, Reason.CANCEL), Reason.PROTOCOL_ERROR),
        (bare(1) + encode(Type.RST_STREAM, 0, 1, b"abc"), Reason.FRAME_SIZE_ERROR),
        (encode(Type.SETTINGS, 0, 1), Reason.PROTOCOL_ERROR),
        (encode(Type.SETTINGS, ACK, 0, bytes(6)), Reason.FRAME_SIZE_ERROR),
        (encode(Type.SETTINGS, 0, 0, bytes(5)), Reason.FRAME_SIZE_ERROR),
        (encode_settings({Setting.ENABLE_PUSH: 2}), Reason.PROTOCOL_ERROR),
        (encode_settings({Setting.INITIAL_WINDOW_SIZE: 1 << 31}), Reason.FLOW_CONTROL_ERROR),
        (encode_settings({Setting.MAX_FRAME_SIZE: 16383}), Reason.PROTOCOL_ERROR),
        (encode_settings({Setting.MAX_FRAME_SIZE: 1 << 24}), Reason.PROTOCOL_ERROR),
        (encode(Type.PUSH_PROMISE, 0, 1, bytes(8)), Reason.PROTOCOL_ERROR),
        (encode(Type.PING, 0, 1, bytes(8)), Reason.PROTOCOL_ERROR),
        (encode(Type.PING, 0, 0, bytes(7)), Reason.FRAME_SIZE_ERROR),
        (encode_goaway(0, Reason.NO_ERROR).replace(b"\x07\x00\x00\x00\x00\x00", b"\x07\x00\x00\x00\x00\x01", 1), Reason.PROTOCOL_ERROR),
        (encode(Type.GOAWAY, 0, 0, bytes(7)), Reason.FRAME_SIZE_ERROR),
        (encode_window(0, 0), Reason.PROTOCOL_ERROR),
        (encode_window(1, 1), Reason.PROTOCOL_ERROR),
        (encode(Type.WINDOW_UPDATE, 0, 0, bytes(3)), Reason.FRAME_SIZE_ERROR),
        (encode_window(0, (1 << 31) - 1), Reason.FLOW_CONTROL_ERROR),
        (bare(1) + encode_window(1, 1) + encode_settings({Setting.INITIAL_WINDOW_SIZE: (1 << 31) - 1}), Reason.FLOW_CONTROL_ERROR),
    ],
)  # fmt: skip
def test_what_ends_a_connection(data: bytes, reason: Reason):
    broken(data, reason=reason)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (bare(1, END_HEADERS | END_STREAM) + encode(Type.DATA, 0, 1, b"x"), Reason.STREAM_CLOSED),
        (bare(1) + encode_window(1, 0), Reason.PROTOCOL_ERROR),
        (bare(1) + encode_window(1, (1 << 31) - 1), Reason.FLOW_CONTROL_ERROR),
        (bare(1) + encode(Type.PRIORITY, 0, 1, bytes(4)), Reason.FRAME_SIZE_ERROR),
        (bare(1, END_HEADERS, hpack.Encoder().encode(HEADERS[1:])), Reason.PROTOCOL_ERROR),
        (bare(1) + bare(1), Reason.PROTOCOL_ERROR),
        (bare(1) + encode_reset(1, Reason.CANCEL) + encode(Type.DATA, END_STREAM, 1, b"x"), Reason.STREAM_CLOSED),
        (bare(1, END_HEADERS | END_STREAM) + bare(1, END_HEADERS | END_STREAM), Reason.STREAM_CLOSED),
        (bare(1) + (encode(Type.DATA, 0, 1, bytes(DATA_BYTES)) + encode(Type.DATA, 0, 1, b"x")) * 2, Reason.FLOW_CONTROL_ERROR),
        (bare(1, END_HEADERS | END_STREAM, hpack.Encoder().encode([*HEADERS, ("content-length", "2")])), Reason.PROTOCOL_ERROR),
        (bare(1, END_HEADERS, hpack.Encoder().encode([*HEADERS, ("content-length", "2")])) + encode(Type.DATA, END_STREAM, 1, b"x"), Reason.PROTOCOL_ERROR),
    ],
)  # fmt: skip
def test_what_ends_a_stream(data: bytes, reason: Reason):
    rig = Rig()
    rig.feed(data + PING)
    assert rig.reason is None
    assert rig.resets() == {1: reason}
    assert rig.streams.by_number == {}


@pytest.mark.parametrize(
    "data",
    [
        encode(0x77, 0xFF, 1, b"?" * 500),
        encode(Type.PRIORITY, 0, 9, bytes(5)),
        encode_settings({Setting.MAX_CONCURRENT_STREAMS: 0}) + encode(Type.SETTINGS, 0, 0, b"\x00\x99" + bytes(4)),
        encode(Type.PING, ACK, 0, bytes(8)),
        encode(Type.GOAWAY, 0, 0, bytes(20)),
    ],
)  # fmt: skip
def test_what_is_read_over(data: bytes):
    rig = Rig()
    rig.feed(data)
    rig.taken()
    rig.feed(PING)
    assert [(f.type, f.flags, f.payload) for f in rig.taken()] == [(Type.PING, ACK, b"12345678")]


class TestRequests:
    def test_padding_priority_and_continuations(self) -> None:
        rig = Rig()
        block = rig.encoder.encode(HEADERS)
        first = b"\x04" + b"\x80\x00\x00\x07\x10" + block[:3] + bytes(4)
        rig.feed(
            encode(Type.HEADERS, 0x8 | PRIORITY, 1, first)
            + encode(Type.CONTINUATION, 0, 1, block[3:5])
            + encode(Type.CONTINUATION, END_HEADERS, 1, block[5:])
            + encode(Type.DATA, 0x8, 1, b"\x02he" + bytes(2))
            + encode(Type.DATA, END_STREAM, 1, b"llo")
        )
        assert rig.asked.opened[0].request.pseudo[b":path"] == b"/t/echo"
        assert (rig.asked.bodies, rig.asked.whole) == ({1: b"hello"}, [1])

    def test_trailers(self) -> None:
        rig = Rig()
        rig.open(1)
        rig.feed(encode(Type.DATA, 0, 1, b"x"))
        rig.feed(rig.headers(1, [("a", "b")], END_HEADERS | END_STREAM))
        assert (rig.asked.whole, rig.reason) == ([1], None)

    def test_a_turn_is_short(self) -> None:
        rig = Rig()
        data = b"".join(rig.headers(n, flags=END_HEADERS | END_STREAM) for n in range(1, 161, 2))
        assert rig.connection.receive(data, 0)
        assert len(rig.asked.opened) == 32
        assert rig.connection.go_on(0)
        assert not rig.connection.go_on(0)
        assert len(rig.asked.opened) == 80

    def test_more_at_once_than_allowed(self) -> None:
        rig = Rig()
        for at in range(STREAMS_CAP + 2):
            rig.feed(rig.headers(2 * at + 1))
        first = 2 * STREAMS_CAP + 1
        assert rig.resets() == {first: Reason.REFUSED_STREAM, first + 2: Reason.REFUSED_STREAM}
        rig.feed(encode_reset(1, Reason.CANCEL))
        rig.streams.release()
        assert rig.open(first + 4).number == first + 4

    def test_no_stream_waits_for_the_connections_window(self) -> None:
        rig = Rig()
        given = 64 << 20
        for at in range(400):
            stream = rig.open(2 * at + 1, bytes(DATA_BYTES))
            given -= DATA_BYTES
            rig.streams.answer(stream, STATUS_200, [b""], 0, b"")
            rig.streams.release()
            for frame in rig.taken():
                if frame.type == Type.WINDOW_UPDATE:
                    assert frame.stream == 0
                    given += int.from_bytes(frame.payload, "big")
            assert given >= STREAM_ROOM
        assert rig.reason is None

    def test_ending(self) -> None:
        rig = Rig()
        stream = rig.open(1, b"ask")
        rig.connection.end()
        assert rig.taken()[-1].payload[:4] == b"\x00\x00\x00\x01"
        rig.feed(rig.headers(3) + encode(Type.DATA, 0, 3, b"late"))
        assert (len(rig.asked.opened), rig.taken()) == (1, [])
        rig.streams.answer(stream, STATUS_200, [b"x"], 1, b"")
        assert len(rig.taken()) == 3


class TestFloods:
    """Each ends the connection, and none does anything before that."""

    def calm(self, rig: Rig, data: bytes, most: int = 3000) -> None:
        for _ in range(most):
            rig.feed(data)
            rig.connection.out.clear()
            if rig.reason is not None:
                break
        assert rig.reason is Reason.ENHANCE_YOUR_CALM

    @pytest.mark.parametrize(
        "data",
        [
            PING, encode_settings({}), encode_settings({Setting.INITIAL_WINDOW_SIZE: 5}),
            encode(Type.SETTINGS, ACK, 0), encode(Type.PRIORITY, 0, 3, bytes(5)),
            encode(0x99, 0, 0), encode_window(0, 1), encode(Type.GOAWAY, 0, 0, bytes(8)),
        ],
    )  # fmt: skip
    @pytest.mark.hostile("W2 floods of PING, SETTINGS, PRIORITY, windows and unknown frames")
    def test_of_what_asks_for_nothing(self, data: bytes) -> None:
        self.calm(Rig(), data)

    @pytest.mark.parametrize("data", [b"", b"x"])
    @pytest.mark.hostile("W3 empty and tiny DATA frames without end")
    def test_of_empty_and_tiny_data(self, data: bytes) -> None:
        rig = Rig()
        rig.open(1)
        self.calm(rig, encode(Type.DATA, 0, 1, data))

    @pytest.mark.hostile("W1 streams that are opened and reset at once (CVE-2023-44487)")
    def test_of_resets(self) -> None:
        """CVE-2023-44487."""
        rig = Rig()
        for at in range(3000):
            rig.feed(rig.headers(2 * at + 1) + encode_reset(2 * at + 1, Reason.CANCEL))
            rig.streams.release()
            if rig.reason is not None:
                break
        assert rig.reason is Reason.ENHANCE_YOUR_CALM
        assert len(rig.asked.opened) == 501

    def test_of_resets_that_we_are_made_to_send(self) -> None:
        rig = Rig()
        for at in range(3000):
            rig.feed(rig.headers(2 * at + 1, HEADERS[1:]))
            if rig.reason is not None:
                break
        assert rig.reason is Reason.ENHANCE_YOUR_CALM

    @pytest.mark.parametrize(("piece", "most"), [(b"", 17), (b"x" * 16000, 3)])
    @pytest.mark.hostile("W4 CONTINUATION without end (CVE-2024-27316)")
    def test_of_continuations(self, piece: bytes, most: int) -> None:
        rig = Rig()
        rig.feed(rig.headers(1, flags=0))
        self.calm(rig, encode(Type.CONTINUATION, 0, 1, piece), most)

    @pytest.mark.hostile("W6 windows of a byte")
    def test_of_tiny_windows(self) -> None:
        rig = Rig()
        rig.feed(encode_settings({Setting.INITIAL_WINDOW_SIZE: 1}))
        stream = rig.open(1, b"ask")
        rig.streams.begin(stream, STATUS_200)
        rig.streams.outflow.put(stream, [bytes(100_000)])
        self.calm(rig, encode_window(1, 1))

    @pytest.mark.hostile("W6 windows of a byte")
    def test_of_tiny_windows_on_all_streams(self) -> None:
        """One frame of the client makes a hundred of ours."""
        rig = Rig()
        rig.feed(encode_settings({Setting.INITIAL_WINDOW_SIZE: 0}))
        for at in range(100):
            stream = rig.open(2 * at + 1, b"ask")
            rig.streams.begin(stream, STATUS_200)
            rig.streams.send(stream, [bytes(1000)])
        rounds = 0
        while rig.reason is None and rounds < 20:
            rounds += 1
            rig.feed(encode_settings({Setting.INITIAL_WINDOW_SIZE: rounds}))
            rig.connection.out.clear()
        assert (rig.reason, rounds) == (Reason.ENHANCE_YOUR_CALM, 10)

    def test_frames_in_pieces_are_no_flood(self) -> None:
        rig = Rig()
        stream = rig.open(1)
        frame = encode(Type.DATA, 0, 1, bytes(100))
        for _ in range(3000):
            rig.feed(frame[:60])
            rig.feed(frame[60:])
            rig.streams.grant(stream, 100)
            rig.connection.out.clear()
        assert rig.reason is None

    @pytest.mark.hostile("W2 floods of PING, SETTINGS, PRIORITY, windows and unknown frames")
    def test_an_honest_client_is_never_stopped(self) -> None:
        """Each answer is measured with a PING, its window given back, and the clock stands still."""
        rig = Rig()
        for at in range(5000):
            stream = rig.open(2 * at + 1, b"ask")
            rig.streams.answer(stream, STATUS_200, [b"answer"], 6, b"")
            rig.streams.release()
            rig.feed(PING + encode_window(0, 6))
            rig.connection.out.clear()
        assert rig.reason is None


STREAM = (
    PREFACE + encode_settings({Setting.INITIAL_WINDOW_SIZE: 99}) + bare(1)
    + encode(Type.DATA, 0x8, 1, b"\x03hello" + bytes(3)) + PING + encode_window(0, 9)
    + encode(Type.DATA, END_STREAM, 1, b"there") + encode(0x42, 1, 0, b"unknown")
    + bare(3, END_HEADERS | END_STREAM) + encode_reset(3, Reason.CANCEL)
)  # fmt: skip


def outcome(pieces: list[bytes]) -> object:
    rig = Rig(greets=False)
    for piece in pieces:
        rig.feed(piece)
    asked = rig.asked
    written = b"".join(rig.connection.out)
    return (asked.bodies, asked.whole, asked.reset, rig.reason, written)


@settings(max_examples=40)
@given(st.lists(st.integers(0, len(STREAM)), max_size=10))
def test_cuts_change_nothing(cuts: list[int]):
    at = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[a:b] for a, b in itertools.pairwise(at)]
    assert outcome(pieces) == outcome([STREAM])


FRAME = st.builds(
    encode,
    st.integers(0, 11), st.integers(0, 255), st.integers(0, 9),
    st.one_of(st.binary(max_size=30), st.just(hpack.Encoder().encode(HEADERS)),
              st.sampled_from([bytes(4), bytes(5), bytes(6), bytes(8), b"\x00\x04\x7f\xff\xff\xff"])),
)  # fmt: skip


@settings(max_examples=40)
@given(st.lists(FRAME, max_size=20))
@pytest.mark.hostile("W9 any frames in any pieces")
def test_any_frames(frames: list[bytes]):
    rig = Rig()
    rig.feed(b"".join(frames))
    for stream in list(rig.streams.by_number.values()):
        rig.streams.answer(stream, STATUS_200, [b"x" * 100_000], 100_000, b"")
    assert rig.streams.busy == len(rig.asked.opened)
    assert not set(rig.asked.reset) & set(rig.streams.by_number)
    assert rig.streams.outflow.waiting_bytes >= 0
