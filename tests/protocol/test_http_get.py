"""The head of a GET: any pieces give the same, and anything that has two readings is refused."""

from __future__ import annotations

import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.protocol.http_get import (
    HEAD_CAP_BYTES,
    HeadReader,
    RefusedError,
    Reply,
    Request,
    encode_reply,
    refusal,
)

GOOD = b"GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\nAccept: text/plain\r\naccept: */*\r\n\r\n"
WANTED = Request("/metrics", "text/plain, */*")


def read(data: bytes) -> Request | None:
    return HeadReader().feed(data)


def refuse(data: bytes) -> int:
    with pytest.raises(RefusedError) as caught:
        read(data)
    return caught.value.status


@given(st.lists(st.integers(0, len(GOOD)), max_size=6))
def test_in_any_pieces(cuts: list[int]):
    reader, found = HeadReader(), None
    edges = [0, *sorted(cuts), len(GOOD)]
    for start, stop in itertools.pairwise(edges):
        assert found is None or start == stop
        found = reader.feed(GOOD[start:stop]) or found
    assert found == WANTED


def test_byte_by_byte():
    reader = HeadReader()
    assert [reader.feed(GOOD[i : i + 1]) for i in range(len(GOOD))][-1] == WANTED


def test_what_follows_is_left():
    assert read(GOOD + b"GET / HTTP/1.1\r\n\r\n") == WANTED


@pytest.mark.parametrize(
    "method", [b"PUT", b"DELETE", b"TRACE", b"CONNECT", b"POST", b"HEAD", b"get"]
)
def test_another_method(method: bytes):
    """ "PUT, DELETE, TRACE, CONNECT on every route → 405." """
    assert refuse(method + b" /metrics HTTP/1.1\r\nHost: a\r\n\r\n") == 405


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: 5",
        b"Content-Length: 0\r\nContent-Length: 5",
        b"Transfer-Encoding: chunked",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Host: a\r\nHost: b",
        b"no colon",
        b": no name",
        b"Name : space",
        b" folded: line",
        b"Bad: \x00",
        b"Bad: a\nb: c",
        b"Bad: a\rb: c",
    ],
)
def test_headers_that_could_be_read_in_two_ways(headers: bytes):
    """ "both Content-Length and Transfer-Encoding → 400, closed." """
    assert refuse(b"GET / HTTP/1.1\r\n" + headers + b"\r\n\r\n") == 400


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"", 400),
        (b"GET /", 400),
        (b"GET  / HTTP/1.1", 400),
        (b"GET http://a/ HTTP/1.1", 400),
        (b"GET \xff HTTP/1.1", 400),
        (b"GET /\xff HTTP/1.1", 400),
        (b"GET /\x00 HTTP/1.1", 400),
        (b"GET /a\tb HTTP/1.1", 400),
        (b"GET /" + b"a" * 1100 + b" HTTP/1.1", 400),
        (b"GET / HTTP/2.0", 505),
        (b"GET / FTP/1.1", 400),
        (b"\x16\x03\x01 / HTTP/1.1", 400),
    ],
)
def test_first_line(line: bytes, status: int):
    assert refuse(line + b"\r\n\r\n") == status


def test_too_long_and_too_many():
    """ "1 MB of headers or 10,000 header lines → 431, closed." """
    assert refuse(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 65 + b"\r\n") == 431
    assert refuse(b"GET / HTTP/1.1\r\nA: " + b"a" * HEAD_CAP_BYTES + b"\r\n\r\n") == 431
    reader = HeadReader()
    assert not any(reader.feed(b"a") for _ in range(HEAD_CAP_BYTES))
    with pytest.raises(RefusedError):
        reader.feed(b"a")


@given(st.binary(max_size=300))
def test_no_other_exception(data: bytes):
    for text in (data, data + b"\r\n\r\n", b"GET / HTTP/1.1\r\n" + data + b"\r\n\r\n"):
        with contextlib.suppress(RefusedError):
            read(text)


def test_replies():
    data = encode_reply(Reply(200, b"{}\n", "application/json"))
    head, _, body = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Length: 3" in head
    assert b"Connection: close" in head
    assert body == b"{}\n"
    assert b"Allow: GET" in encode_reply(refusal(RefusedError(405, "x")))
    assert b"Allow" not in encode_reply(refusal(RefusedError(400, "x")))
