"""HTTP/2's own rules about a list of headers."""

from __future__ import annotations

import pytest

from edged.protocol.http2_request import parse_request

GOOD = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/a"), (b"te", b"trailers")]


def test_good():
    request = parse_request([*GOOD, (b"content-length", b"12")], is_over=False)
    assert request.fault is None
    assert (request.length, request.pseudo[b":path"]) == (12, b"/a")
    assert request.headers[0] == (b"te", b"trailers")


@pytest.mark.parametrize(
    "headers",
    [
        GOOD[1:],
        [*GOOD, (b":path", b"/b")],
        [*GOOD[:3], (b":path", b"/b")],
        [*GOOD, (b":status", b"200")],
        [(b":unknown", b"x"), *GOOD],
        [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"")],
        [*GOOD, (b"X-Upper", b"x")],
        [*GOOD, (b"", b"x")],
        [*GOOD, (b"connection", b"close")],
        [*GOOD, (b"transfer-encoding", b"chunked")],
        [*GOOD, (b"te", b"gzip")],
        [*GOOD, (b"a", b"b\r\nc")],
        [*GOOD, (b"a", b" b")],
        [*GOOD, (b"content-length", b"-1")],
        [*GOOD, (b"content-length", b"9" * 30)],
    ],
)
def test_malformed(headers: list[tuple[bytes, bytes]]):
    assert parse_request(headers, is_over=False).fault is not None
