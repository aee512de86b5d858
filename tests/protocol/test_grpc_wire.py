"""gRPC's own framing: what is asked for, messages in any pieces, and answers."""

from __future__ import annotations

import gzip
import itertools
import zlib
from urllib.parse import unquote

import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.protocol.grpc_call import Reply, Status
from edged.protocol.grpc_wire import (
    HEAD,
    TAIL,
    Asking,
    CallError,
    MessageReader,
    encode_only,
    encode_prefix,
    encode_tail,
    quoted,
)
from edged.protocol.http2_request import parse_request

GOOD = [
    (b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/a.B/C"), (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
]  # fmt: skip


def asking(*headers: tuple[bytes, bytes], is_over: bool = False) -> Asking:
    made = {**dict(GOOD), **dict(headers)}
    request = parse_request(list(made.items()), is_over)
    assert request.fault is None
    return Asking(request)


def told(block: bytes | None) -> dict[str, str]:
    assert block is not None
    return dict(hpack.Decoder().decode(block))


def test_what_is_asked_for():
    found = asking(
        (b"grpc-timeout", b"250m"), (b"x-request", b"7"), (b"x-secret-bin", b"AA"),
        (b"user-agent", b"grpc"), (b"grpc-encoding", b"gzip"),
        (b"content-type", b"application/grpc+proto; a=b"),
    )  # fmt: skip
    assert (found.path, found.timeout_ns, found.refusal) == ("/a.B/C", 250_000_000, None)
    assert found.metadata == (("x-request", "7"),)
    assert found.coding == 31


@pytest.mark.parametrize(
    ("text", "ns"),
    [(b"1H", 3600 * 10**9), (b"2M", 120 * 10**9), (b"3S", 3 * 10**9), (b"4u", 4000), (b"99999999n", 99999999)],
)  # fmt: skip
def test_timeouts(text: bytes, ns: int):
    assert asking((b"grpc-timeout", text)).timeout_ns == ns


@pytest.mark.parametrize("text", [b"", b"m", b"1", b"1x", b"-1m", b"123456789m", b"1.5S", b"1 m"])
def test_no_timeouts(text: bytes):
    assert told(asking((b"grpc-timeout", text)).refusal)["grpc-status"] == "3"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ((b":method", b"GET"), {":status": "405", "allow": "POST"}),
        ((b"content-type", b"application/json"), {":status": "415"}),
        ((b"content-type", b"application/grpc-web"), {":status": "415"}),
        ((b"grpc-encoding", b"snappy"), {":status": "200", "grpc-status": "12"}),
        ((b":path", b"/" + b"x" * 300), {":status": "200", "grpc-status": "12"}),
    ],
)
def test_refused(header: tuple[bytes, bytes], expected: dict[str, str]):
    assert told(asking(header).refusal).items() >= expected.items()


def test_too_much_metadata():
    assert told(asking(is_over=True).refusal)["grpc-status"] == "8"


def message(data: bytes, packed: int = 0) -> bytes:
    return bytes([packed]) + len(data).to_bytes(4, "big") + data


MESSAGES = [b"", b"a", b"x" * 1000, b"", bytes(range(256))]
STREAM = b"".join(map(message, MESSAGES))


@settings(max_examples=40)
@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_messages_in_pieces(cuts: list[int]):
    reader, found = MessageReader(2000, 0), []
    at = [0, *sorted(cuts), len(STREAM)]
    for a, b in itertools.pairwise(at):
        found += reader.feed(STREAM[a:b])
        assert reader.missing >= 0
    assert [bytes(one) for one in found] == MESSAGES
    assert reader.missing == 0


def test_how_much_is_missing():
    reader = MessageReader(2000, 0)
    reader.feed(message(b"x" * 100)[:3])
    assert reader.missing == 2
    reader.feed(message(b"x" * 100)[3:15])
    assert reader.missing == 90


@pytest.mark.parametrize(("coding", "pack"), [(31, gzip.compress), (15, zlib.compress)])
def test_compressed(coding: int, pack: object):
    reader = MessageReader(1000, coding)
    found = reader.feed(message(pack(b"x" * 1000), 1) + message(b"plain"))
    assert found == [pack(b"x" * 1000), b"plain"], "none is unpacked while it waits"
    assert [reader.unpacked(one) for one in found] == [b"x" * 1000, b"plain"]


@pytest.mark.parametrize(
    ("data", "coding", "status"),
    [
        (message(b"x" * 1001), 0, Status.RESOURCE_EXHAUSTED),
        (b"\x00\xff\xff\xff\xff", 0, Status.RESOURCE_EXHAUSTED),
        (message(b"x", 2), 0, Status.INTERNAL),
        (message(b"x", 1), 0, Status.INTERNAL),
        (message(b"no gzip", 1), 31, Status.INTERNAL),
        (message(b"", 1), 31, Status.INTERNAL),
        (message(gzip.compress(b"x" * 100, mtime=0)[:-1], 1), 31, Status.INTERNAL),
        (message(gzip.compress(b"x", mtime=0) + b"more", 1), 31, Status.INTERNAL),
        (message(gzip.compress(b"x" * 1001, mtime=0), 1), 31, Status.RESOURCE_EXHAUSTED),
    ],
)
def test_messages_that_are_refused(data: bytes, coding: int, status: Status):
    reader = MessageReader(1000, coding)
    with pytest.raises(CallError) as caught:
        list(map(reader.unpacked, reader.feed(data)))
    assert caught.value.status is status


def test_answers():
    assert told(HEAD) == {":status": "200", "content-type": "application/grpc"}
    assert encode_tail(Reply([])) == TAIL
    assert told(TAIL) == {"grpc-status": "0"}
    reply = Reply([], Status.NOT_FOUND, "no 100 % é\n", (("retry-after", "1"),))
    found = told(encode_only(reply))
    assert found["grpc-message"] == "no 100 %25 %C3%A9%0A"
    assert (found["grpc-status"], found["retry-after"]) == ("5", "1")
    assert encode_prefix([b"abc", memoryview(bytes(8)).cast("d")]) == (b"\x00\x00\x00\x00\x0b", 16)


@settings(max_examples=40)
@given(st.text(max_size=100))
def test_texts_come_back(text: str):
    clean = text.encode("utf-8", "replace").decode()
    assert unquote(quoted(text).decode("ascii")) == clean


def test_texts_are_short():
    assert len(unquote(quoted("é" * 5000).decode())) == 1000
