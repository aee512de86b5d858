"""As much of HTTP/1.1 as a scraper and a probe need: one GET without a body, one answer, goodbye.

Pure: bytes in, a request or a refusal out. Anything that could be read in two ways is refused.
Source: RFC 9110, RFC 9112.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

HEAD_CAP_BYTES = 8 << 10
"""Request line and headers; what Prometheus and kubelet send is below 1 KiB, and Apache and nginx
take no more than this either."""
_MAX_HEADERS = 64
_CAP_TARGET = 1024
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
_BAD_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_BAD_TARGET = re.compile(rb"[\x00-\x20\x7f]")
"""A tab too: some readers end the target there."""
_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
    505: "HTTP Version Not Supported",
}
TEXT = "text/plain; charset=utf-8"
JSON = "application/json"


class RefusedError(Exception):
    """A request that is answered with an error; the text is for the peer."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


@dataclass(frozen=True, slots=True)
class Request:
    """A GET.

    Args:
        path: without the query.
        accept: the Accept header, or empty.
    """

    path: str
    accept: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer."""

    status: int
    body: bytes
    content_type: str = TEXT
    headers: tuple[tuple[str, str], ...] = field(default=())


class HeadReader:
    """Gathers a request's head, within its cap."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> Request | None:
        """Take bytes; the request once its head is complete. What follows a head is not read.

        Raises:
            RefusedError: too long, or not a GET that can be read in one way only.
        """
        start = max(0, len(self._data) - 3)
        self._data += data
        end = self._data.find(b"\r\n\r\n", start)
        if end > HEAD_CAP_BYTES or (end < 0 and len(self._data) > HEAD_CAP_BYTES):
            raise RefusedError(431, f"a request's head may have {HEAD_CAP_BYTES} bytes")
        return None if end < 0 else parse_head(bytes(self._data[:end]))


def parse_head(head: bytes) -> Request:
    """Read a head without its last two line ends.

    Raises:
        RefusedError: as HeadReader.feed.
    """
    first, *lines = head.split(b"\r\n")
    path = _request_line(first)
    if len(lines) > _MAX_HEADERS:
        raise RefusedError(431, f"a request may have {_MAX_HEADERS} headers")
    headers: dict[bytes, list[bytes]] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not _TOKEN.match(name) or _BAD_VALUE.search(value):
            raise RefusedError(400, "a header that is not NAME: VALUE")
        headers.setdefault(name.lower(), []).append(value.strip(b" \t"))
    if b"transfer-encoding" in headers or any(
        v != b"0" for v in headers.get(b"content-length", ())
    ):
        raise RefusedError(400, "a GET here has no body")
    if len(headers.get(b"host", ())) > 1:
        raise RefusedError(400, "two Host headers")
    accept = b", ".join(headers.get(b"accept", ()))
    return Request(path, accept.decode("latin-1"))


def _request_line(line: bytes) -> str:
    parts = line.split(b" ")
    if len(parts) != 3 or not _TOKEN.match(parts[0]):
        raise RefusedError(400, "the first line is not METHOD TARGET VERSION")
    method, target, version = parts
    if version not in (b"HTTP/1.1", b"HTTP/1.0"):
        is_http = version.startswith(b"HTTP/")
        raise RefusedError(505 if is_http else 400, "expected HTTP/1.1 or HTTP/1.0")
    if not target.startswith(b"/") or len(target) > _CAP_TARGET or not target.isascii():
        raise RefusedError(400, "expected a path")
    if _BAD_TARGET.search(target):
        raise RefusedError(400, "expected a path")
    if method != b"GET":
        raise RefusedError(405, "only GET is answered here")
    return target.partition(b"?")[0].decode("ascii")


def refusal(error: RefusedError) -> Reply:
    """The answer to a request that was refused."""
    allow = (("Allow", "GET"),) if error.status == 405 else ()
    return Reply(error.status, f"{error.text}\n".encode(), headers=allow)


def encode_reply(reply: Reply) -> bytes:
    """An answer as bytes; the connection ends after it."""
    lines = [
        f"HTTP/1.1 {reply.status} {_REASONS[reply.status]}",
        f"Content-Type: {reply.content_type}",
        f"Content-Length: {len(reply.body)}",
        *(f"{name}: {value}" for name, value in reply.headers),
        "Cache-Control: no-store",
        "Connection: close",
    ]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + reply.body
