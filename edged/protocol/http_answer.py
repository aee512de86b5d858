"""HTTP/1.1 answers as bytes: head and body of a small one in one piece, so in one write.

Clients that do not read the body of an answer throw their connection away when it arrives later
than its head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from edged.protocol.frames import Buffer

JSON: Final = "application/json"
BINARY: Final = "application/octet-stream"
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
EVENTS: Final = "text/event-stream; charset=utf-8"
JOIN_BYTES: Final = 64 << 10
"""Joining so little costs less than a second call of the kernel."""

_REASONS: Final = {
    200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    408: "Request Timeout", 413: "Content Too Large", 414: "URI Too Long",
    415: "Unsupported Media Type", 417: "Expectation Failed",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    499: "Client Closed Request", 500: "Internal Server Error", 501: "Not Implemented",
    503: "Service Unavailable", 505: "HTTP Version Not Supported",
}  # fmt: skip


def encode_answer(
    body: Sequence[Buffer],
    status: int = 200,
    content_type: str = JSON,
    headers: str = "",
    *,
    keeps_alive: bool = True,
) -> list[Buffer]:
    """An answer.

    Args:
        body: its parts.
        status: of it.
        content_type: of it.
        headers: further lines, each with its line end.
        keeps_alive: whether another request may follow.

    Returns:
        What to write, in one piece when it is small.
    """
    size = sum(memoryview(part).nbytes for part in body)
    connection = "" if keeps_alive else "Connection: close\r\n"
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {size}\r\n{headers}{connection}\r\n"
    ).encode("latin-1")
    if size <= JOIN_BYTES:
        return [b"".join((head, *body))]
    return [head, *body]


def encode_error(
    status: int, text: str, headers: str = "", *, keeps_alive: bool = True
) -> list[Buffer]:
    """An answer that says what was wrong, in the form that every client of the protocol reads."""
    body = msgspec.json.encode({"error": text})
    return encode_answer([body], status, headers=headers, keeps_alive=keeps_alive)


def encode_events_head(*, is_chunked: bool, keeps_alive: bool) -> bytes:
    """The head of an answer that is one event after another.

    Args:
        is_chunked: whether each has its length before it; else the connection's end is theirs.
        keeps_alive: whether another request may follow.
    """
    framing = "Transfer-Encoding: chunked\r\n" if is_chunked else ""
    connection = "" if keeps_alive else "Connection: close\r\n"
    return (
        f"HTTP/1.1 200 OK\r\nContent-Type: {EVENTS}\r\nCache-Control: no-cache\r\n"
        f"{framing}{connection}\r\n"
    ).encode("latin-1")


def encode_event(data: bytes, *, is_chunked: bool) -> bytes:
    """One event; ``data`` has no line ends."""
    event = b"data: " + data + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(event), event) if is_chunked else event


def encode_events_end(*, is_chunked: bool) -> bytes:
    """What follows the last event."""
    return b"0\r\n\r\n" if is_chunked else b""
