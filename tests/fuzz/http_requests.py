"""Requests of HTTP clients, whole and in pieces."""

from __future__ import annotations

import zlib

from edged.protocol.http_reader import HttpReader


def run_requests(data: bytes) -> None:
    """However the bytes are cut, the same requests come out of them."""
    whole, cut = HttpReader(4096), HttpReader(4096)
    found = whole.feed(data)
    pieces = [one for start in range(0, len(data), 7) for one in cut.feed(data[start : start + 7])]
    same = [(one.method, one.target, one.headers, bytes(one.body)) for one in found]
    assert same == [(one.method, one.target, one.headers, bytes(one.body)) for one in pieces]
    assert all(len(one.body) <= 4096 for one in found)


def seed_requests() -> list[bytes]:
    chunked = (
        b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    )
    packed = zlib.compress(b"hello" * 9)
    return [
        b"GET /v2?x=1 HTTP/1.1\r\nHost: a\r\nAccept: b\r\n\r\n",
        b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" + chunked,
        b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Encoding: deflate\r\nContent-Length: "
        + b"%d\r\n\r\n%s" % (len(packed), packed),
        b"POST / HTTP/1.0\r\nConnection: keep-alive\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
    ]
