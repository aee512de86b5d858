"""A connection of HTTP/2, in pieces or whole."""

from __future__ import annotations

import gzip

from edged.protocol import http2_frames as h2
from edged.protocol.grpc_wire import HEAD, TAIL, Asking, CallError, MessageReader
from edged.protocol.http2_frames import PREFACE
from tests.fakes.http2 import HEADERS, Rig


def _http2(pieces: list[bytes]) -> tuple[object, ...]:
    """What a connection is asked, what it writes, and what each body's messages are."""
    rig = Rig(greets=False)
    for piece in pieces:
        rig.feed(piece)
    asked, streams = rig.asked, rig.streams
    assert streams.busy == len(asked.opened)
    messages: list[object] = []
    for stream in asked.opened:
        asking = Asking(stream.request)
        body = asked.bodies[stream.number]
        try:
            reader = MessageReader(1024, asking.coding)
            messages += [bytes(reader.unpacked(one)) for one in reader.feed(body)]
        except CallError as exc:
            messages.append(exc.text)
        if streams.by_number.get(stream.number) is stream:
            streams.answer(stream, HEAD, [body], len(body), TAIL)
    return (asked.bodies, asked.whole, asked.reset, rig.reason, rig.taken(), messages)


def run_http2(data: bytes) -> None:
    """The first byte says how the rest is cut; the cuts must not change what is read."""
    if not data:
        return
    step, stream = data[0] + 1, PREFACE + data[1:]
    pieces = [stream[at : at + step] for at in range(0, len(stream), step)]
    assert _http2(pieces) == _http2([stream])


def seed_http2() -> list[bytes]:
    rig = Rig()
    block = rig.encoder.encode([*HEADERS, ("grpc-encoding", "gzip"), ("grpc-timeout", "1S")])
    packed = gzip.compress(b"x" * 50, mtime=0)
    body = b"\x00\x00\x00\x00\x02ab\x01" + len(packed).to_bytes(4, "big") + packed
    begin = h2.encode_settings(
        {h2.Setting.INITIAL_WINDOW_SIZE: 20, h2.Setting.HEADER_TABLE_SIZE: 9}
    )
    whole = h2.END_HEADERS | h2.END_STREAM
    return [
        b"\x00" + begin + rig.headers(1) + h2.encode(h2.Type.DATA, h2.END_STREAM, 1, body),
        b"\x07" + begin + h2.encode(h2.Type.HEADERS, 0, 3, block[:9])
        + h2.encode(h2.Type.CONTINUATION, h2.END_HEADERS, 3, block[9:])
        + h2.encode(h2.Type.DATA, h2.PADDED, 3, b"\x02" + body + bytes(2))
        + h2.encode_window(3, 5) + h2.encode_window(0, 70_000) + h2.encode(h2.Type.PING, 0, 0, bytes(8))
        + h2.encode(h2.Type.HEADERS, whole, 3, b"\x00\x01a\x01b"),
        b"\xff" + begin + h2.encode(h2.Type.HEADERS, whole, 1, block)
        + h2.encode_reset(1, h2.Reason.CANCEL) + h2.encode(h2.Type.PRIORITY, 0, 5, bytes(5))
        + h2.encode(0x77, 0, 0, b"?") + h2.encode_goaway(0, h2.Reason.NO_ERROR),
    ]  # fmt: skip
