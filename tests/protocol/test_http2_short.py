"""Whole calls known by their bytes: answered to the byte as the long way does, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.protocol.grpc_wire import HEAD, TAIL
from edged.protocol.http2_frames import (
    END_HEADERS,
    END_STREAM,
    PADDED,
    WINDOW_START,
    Reason,
    Setting,
    Type,
    encode,
    encode_reset,
    encode_settings,
    encode_window,
)
from edged.protocol.http2_short import ANSWER_BYTES, SHORT_BYTES, Found, ShortReads
from tests.fakes.http2 import HEADERS, Rig


def framed(message: bytes) -> bytes:
    return len(message).to_bytes(5, "big") + message


class Client(Rig):
    """One call after the other, each in one read; our side answers with what it was sent."""

    def __init__(self, *, is_short: bool = True) -> None:
        super().__init__()
        self.number = -1
        self.short = ShortReads(self.connection) if is_short else None
        self.found: list[int] = []
        self.grows = True

    def call(self, message: bytes, number: int = 0) -> bytes:
        """As grpcio writes it: the stream's window grows, and the connection's by what it read."""
        self.number = number or self.number + 2
        data = self.headers(self.number)
        if self.grows:
            data += encode_window(self.number, 5)
        data += encode(Type.DATA, END_STREAM, self.number, framed(message))
        return data + (encode_window(0, 55) if self.grows else b"")

    def take(self, data: bytes) -> None:
        """As ``transports.grpc.http2_peer``."""
        if self.short is not None and (found := self.short.find(data)) is not None:
            self.found.append(found.number)
            self.connection.out.append(self.short.answer(found, found.message))
            return
        before = len(self.asked.whole)
        self.feed(data)
        for number in self.asked.whole[before:]:
            stream = self.streams.by_number[number]
            body = self.asked.bodies[number]
            self.streams.answer(stream, HEAD, [body], len(body), TAIL)
            self.streams.release()
        if self.short is not None and len(self.asked.whole) == before + 1:
            self.short.learn(data)

    def written(self) -> bytes:
        written = b"".join(map(bytes, self.connection.out))
        self.connection.out.clear()
        return written

    def books(self) -> tuple[object, ...]:
        streams = self.streams
        return (
            streams.last, streams.work, streams.outflow.window, streams.busy,
            self.connection._taken, streams.idle._left, streams.resets._left,
        )  # fmt: skip


def known() -> Client:
    """With a read that is known."""
    client = Client()
    for _ in range(3):
        client.take(client.call(b"abcd"))
    client.written()
    client.found.clear()
    return client


@settings(max_examples=40)
@given(st.lists(st.binary(min_size=1, max_size=3), max_size=12), st.booleans())
def test_the_same_as_the_long_way(messages: list[bytes], grows: bool) -> None:
    short, long = Client(), Client(is_short=False)
    short.grows = long.grows = grows
    for message in [b"a", b"b", b"c", *messages]:
        short.take(short.call(message))
        long.take(long.call(message))
        assert short.written() == long.written()
        assert short.books() == long.books()
    # The first block fills the table, the second is kept, the third is known.
    assert 5 in short.found


def unlike() -> dict[str, Callable[[Client], bytes]]:
    other = [*HEADERS, ("x", "y")]
    return {
        "an even stream": lambda c: c.call(b"abcd", 8),
        "an old stream": lambda c: c.call(b"abcd", 3),
        "stream 0": lambda c: c.call(b"abcd").replace(b"\0\0\0\7", bytes(4)),
        "another length": lambda c: c.call(b"abcde"),
        "another prefix": lambda c: c.call(b"abcd").replace(framed(b"abcd"), b"\1\0\0\0\4abcd"),
        "two streams": lambda c: c.call(b"abcd")[:-30] + c.call(b"abcd", 9)[-30:],
        "half of it": lambda c: c.call(b"abcd")[:40],
        "more behind it": lambda c: c.call(b"abcd") + encode(Type.PING, 0, 0, bytes(8)),
        "other headers": lambda c: c.headers(7, other) + c.call(b"abcd")[20:],
    }


@pytest.mark.parametrize("name", unlike())
def test_what_is_not_like_it(name: str) -> None:
    client = known()
    client.take(unlike()[name](client))
    assert client.found == []


def test_not_while_anything_else_is_under_way() -> None:
    client = known()
    client.feed(client.headers(7))
    assert client.short is not None
    assert client.short.find(client.call(b"abcd", 9)) is None
    client.feed(encode_reset(7, Reason.CANCEL))
    client.streams.release()
    client.written()
    assert client.short.find(client.call(b"abcd", 9)) is not None
    data = client.call(b"abcd", 11)
    client.feed(data[:7])
    assert client.short.find(data) is None


def test_not_when_the_table_has_changed() -> None:
    """The same bytes mean other headers then."""
    client = known()
    client.feed(client.headers(7, [*HEADERS, ("new", "entry")]) + client.call(b"ab", 7)[20:])
    assert client.short is not None
    for stream in list(client.streams.by_number.values()):
        client.streams.reset(stream, Reason.CANCEL)
        client.streams.release()
    client.written()
    block = client.short._templates[len(client.call(b"abcd", 9))].block
    assert client.connection.meaning_of(block) is None
    data = client.call(b"abcd", 9)
    at = data.index(b"\0\0\0\x09") + 4
    assert client.short.find(data[:at] + block + data[at + len(block) :]) is None


def test_not_without_room() -> None:
    client = known()
    assert client.short is not None
    client.feed(encode_settings({Setting.INITIAL_WINDOW_SIZE: ANSWER_BYTES}))
    client.written()
    assert client.short.find(client.call(b"abcd")) is None
    client.feed(encode_settings({Setting.INITIAL_WINDOW_SIZE: WINDOW_START}))
    client.written()
    assert client.short.find(client.call(b"abcd")) is not None
    client.streams.outflow.window = ANSWER_BYTES - 51
    assert client.short.find(client.call(b"abcd")) is None
    client.streams.outflow.window += 1
    assert client.short.find(client.call(b"abcd")) is not None
    client.streams.outflow.window = (1 << 31) - 1
    assert client.short.find(client.call(b"abcd")) is None, "a window over 2^31 - 1"


def test_not_for_who_has_no_table_or_goes() -> None:
    for change in ("use_no_table", "end"):
        client = known()
        getattr(client.streams if change == "use_no_table" else client.connection, change)()
        client.written()
        assert client.short is not None
        assert client.short.find(client.call(b"abcd")) is None


def test_what_is_not_learned() -> None:
    client = known()
    short = client.short
    assert short is not None
    short._templates.clear()
    for data in (
        client.headers(7) + encode(Type.DATA, END_STREAM | PADDED, 7, b"\0" + framed(b"ab")),
        encode(Type.PING, 0, 0, bytes(8)) + client.call(b"ab"),
        client.headers(7, flags=END_HEADERS | END_STREAM),
        client.headers(7, flags=0) + encode(Type.CONTINUATION, END_HEADERS, 7, b"\x88"),
        client.headers(7) + encode(Type.DATA, END_STREAM, 7, b"abc"),
        client.call(b"a") + client.call(b"b"),
        client.call(b"a") + encode_window(client.number, 5),
        client.headers(7) + encode_window(9, 5) + client.call(b"a", 7)[-20:],
        client.call(bytes(SHORT_BYTES)),
        b"",
    ):
        short.learn(data)
    assert short._templates == {}
    for size in range(30):
        short.learn(client.call(bytes(size)))
    assert 0 < len(short._templates) <= 8


@settings(max_examples=200)
@given(st.data())
@pytest.mark.hostile("W9 any frames in any pieces")
def test_nothing_is_found_that_the_long_way_would_not(data: st.DataObject) -> None:
    """Whatever bytes are changed, it is the call that its frames say, or none."""
    client, long = known(), known()
    sent = bytearray(client.call(b"abcd"))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(sent) - 1))
        sent[at] = data.draw(st.integers(0, 255))
    assert client.short is not None
    found: Found | None = client.short.find(bytes(sent))
    if found is None:
        return
    before = len(long.asked.whole)
    long.feed(bytes(sent))
    assert long.asked.whole[before:] == [found.number]
    assert long.asked.bodies[found.number] == framed(found.message)
    assert long.asked.opened[-1].request is long.connection.meaning_of(found.template.block)
