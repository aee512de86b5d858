"""A client of HTTP/2 made of raw frames, and one that records what our side is asked."""

from __future__ import annotations

import hpack

from edged.protocol.frames import Buffer
from edged.protocol.http2 import Connection
from edged.protocol.http2_frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    PREFACE,
    Frame,
    FrameReader,
    Reason,
    Type,
    encode,
    encode_settings,
)
from edged.protocol.http2_streams import Stream

HEADERS = [
    (":method", "POST"), (":scheme", "http"), (":path", "/t/echo"), (":authority", "localhost"),
    ("te", "trailers"), ("content-type", "application/grpc"),
]  # fmt: skip


class Asked:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.opened: list[Stream] = []
        self.bodies: dict[int, bytes] = {}
        self.whole: list[int] = []
        self.reset: list[int] = []

    def on_open(self, stream: Stream) -> None:
        self.opened.append(stream)
        self.bodies[stream.number] = b""
        if stream.is_over_in:
            self.whole.append(stream.number)

    def on_data(self, stream: Stream, data: bytes) -> None:
        self.bodies[stream.number] += data
        if stream.is_over_in:
            self.whole.append(stream.number)

    def on_reset(self, stream: Stream) -> None:
        self.reset.append(stream.number)


class Rig:
    """A connection that has been greeted, and its client's side."""

    def __init__(self, *, greets: bool = True) -> None:
        self.asked = Asked()
        self.connection = Connection(self.asked)
        self.streams = self.connection.streams
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()
        self.now_ns = 10**9
        self._reader = FrameReader()
        if greets:
            self.feed(PREFACE + encode_settings({}) + encode(Type.SETTINGS, ACK, 0))
            assert self.connection.failure is None
            self.taken()

    def feed(self, data: bytes) -> None:
        has_more = self.connection.receive(data, self.now_ns)
        while has_more:
            has_more = self.connection.go_on(self.now_ns)

    def taken(self) -> list[Frame]:
        """Whole frames that our side has written since."""
        frames = whole(self._reader, self.connection.out)
        self.connection.out.clear()
        return frames

    def headers(
        self,
        number: int,
        headers: list[tuple[str, str]] | None = None,
        flags: int = END_HEADERS,
    ) -> bytes:
        block = self.encoder.encode(HEADERS if headers is None else headers)
        return encode(Type.HEADERS, flags, number, block)

    def open(self, number: int, body: bytes | None = None) -> Stream:
        """A request; without a body it goes on."""
        data = self.headers(number)
        if body is not None:
            data += encode(Type.DATA, END_STREAM, number, body)
        self.feed(data)
        return self.asked.opened[-1]

    @property
    def reason(self) -> Reason | None:
        failure = self.connection.failure
        return None if failure is None else failure.reason

    def resets(self) -> dict[int, int]:
        return {
            frame.stream: int.from_bytes(frame.payload, "big")
            for frame in self.taken()
            if frame.type == Type.RST_STREAM
        }


def whole(reader: FrameReader, buffers: list[Buffer]) -> list[Frame]:
    """Frames, with the pieces of DATA put together."""
    frames: list[Frame] = []
    pieces = b""
    for cut in reader.feed(b"".join(buffers)):
        frame = Frame(*cut)
        pieces += frame.payload
        if frame.is_last:
            frames.append(frame._replace(payload=pieces))
            pieces = b""
    return frames
