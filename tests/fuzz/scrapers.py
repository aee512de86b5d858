"""What scrapers and probes send, read as the standard library reads it."""

from __future__ import annotations

import io
from http.server import BaseHTTPRequestHandler

from edged.protocol.http_get import HeadReader, RefusedError, Request, encode_reply, refusal


class _OtherReader(BaseHTTPRequestHandler):
    """The head as Python's own server reads it; never answers."""

    def __init__(self, head: bytes) -> None:
        self.rfile = io.BytesIO(head)
        self.raw_requestline = self.rfile.readline()
        self.is_good = self.parse_request()

    def send_error(self, *_: object, **__: object) -> None: ...


def _head(pieces: list[bytes]) -> Request | str:
    reader = HeadReader()
    try:
        for piece in pieces:
            request = reader.feed(piece)
            if request is not None:
                return request
    except RefusedError as exc:
        return encode_reply(refusal(exc)).decode("ascii")
    return "more"


def run_http(data: bytes) -> None:
    """Cuts change nothing, and what is accepted is the same GET to another reader."""
    if not data:
        return
    step, stream = data[0] + 1, data[1:]
    found = _head([stream[at : at + step] for at in range(0, len(stream), step)])
    assert found == _head([stream])
    if isinstance(found, str):
        return
    other = _OtherReader(stream[: stream.index(b"\r\n\r\n") + 4])
    assert (other.is_good, other.command) == (True, "GET")
    path = other.path.partition("?")[0]
    # That reader makes one slash of several at the beginning.
    assert path == found.path or path == "/" + found.path.lstrip("/")
    accept = [value.strip(" \t") for value in other.headers.get_all("accept", [])]
    assert ", ".join(accept) == found.accept


def seed_http() -> list[bytes]:
    heads = [
        b"GET /metrics HTTP/1.1\r\nHost: a:9\r\nAccept: text/plain;q=0.5\r\naccept: */*\r\n\r\n",
        b"GET /health/ready?verbose=1 HTTP/1.0\r\nContent-Length: 0\r\n\r\nbody",
        b"GET //x HTTP/1.1\r\n\r\n",
        b"POST /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ]
    return [bytes([cut]) + head for cut, head in zip((0, 2, 30, 255), heads, strict=True)]
