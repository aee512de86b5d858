"""HTTP/1.1 requests out of bytes: heads and bodies within their caps, and nothing read in two ways.

Sans I/O over httptools, whose parser is strict about what smuggling lives on (both kinds of length,
folded headers, bare line ends). Decides what is too much; never what a request means.
Source: RFC 9110, RFC 9112.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import httptools

from edged.protocol.http_coding import CODINGS, inflated
from edged.protocol.http_get import RefusedError

HEAD_CAP_BYTES: Final = 16 << 10
"""Request line and headers; clients of inference servers send below 1 KiB."""
HEADERS_CAP: Final = 100
TARGET_CAP: Final = 2048
_FREE_CHUNKS: Final = 1024
_CHUNK_BYTES: Final = 64
"""A body in smaller chunks, beyond the first thousand, costs the loop more than its bytes are
worth; curl and aiohttp send kilobytes in each."""
_FRAMING_BYTES: Final = 64 << 10
_FRAMING: Final = 8
"""What chunk extensions and trailers may take, in bytes of body and beside them."""


@dataclass(slots=True)
class HttpRequest:
    """One request, whole.

    Args:
        method: as it was sent.
        target: path and query, as they were sent.
        headers: by name in lower case; only those that somebody here reads.
        body: as it was sent; see ``coding``.
        keeps_alive: whether the connection outlives the answer.
        is_plain: whether the body came as it is, its length said in the head, and more may follow.
        whole: the very bytes it arrived as; empty where others came with them, or in pieces.
        takes_chunks: whether the answer may come in chunks.
        coding: what the body is compressed with; empty for nothing. Whoever begins the request
            unpacks it: of those that still wait in line, each would be as large as a body may be.
    """

    method: str = ""
    target: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray | bytes = b""
    keeps_alive: bool = True
    is_plain: bool = False
    whole: bytes = b""
    takes_chunks: bool = True
    coding: str = ""

    def unpack(self, cap: int) -> None:
        """Decompress the body, within a cap; raises RefusedError."""
        self.body, self.coding = inflated(self.body, self.coding, cap), ""


_READ = frozenset(
    {
        b"inference-header-content-length",
        b"content-encoding",
        b"accept",
        b"accept-encoding",
        b"origin",
        b"sec-fetch-site",
        b"content-type",
    }
)


class HttpReader:
    """Gathers requests of one connection.

    Args:
        body_cap: most bytes of one body, before and after decompression.
    """

    def __init__(self, body_cap: int) -> None:
        self._gathered = _Gathered(body_cap)
        self._parser = self._gathered.parser = httptools.HttpRequestParser(self._gathered)
        self.refusal: RefusedError | None = None
        """Set once: answer it after the requests before it, and end the connection. Nothing that
        follows can be trusted, and nothing more is read."""

    @property
    def is_between_requests(self) -> bool:
        """Whether no request has begun to arrive."""
        return self._gathered.is_between_requests

    @property
    def wants_continue(self) -> bool:
        """Whether the peer holds back a body until it is told to send it."""
        return self._gathered.wants_continue

    def feed(self, data: bytes) -> list[HttpRequest]:
        """Take bytes.

        Returns:
            The requests that are now whole, in order; look at ``refusal`` after them.
        """
        was_between = self._gathered.is_between_requests
        if self.refusal is None:
            try:
                self._feed(data)
            except RefusedError as exc:
                self.refusal = exc
        done, self._gathered.done = self._gathered.done, []
        if was_between and len(done) == 1 and self._gathered.is_between_requests:
            done[0].whole = data
        return done

    def _feed(self, data: bytes) -> None:
        gathered = self._gathered
        gathered.count(len(data))
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as exc:
            cause = exc.__context__
            if isinstance(cause, RefusedError):
                raise cause from None
            raise
        except httptools.HttpParserUpgrade:
            if self._parser.get_method() == b"CONNECT":
                raise RefusedError(405, "Method Not Allowed") from None
            raise RefusedError(400, "upgrades are not served: speak plain HTTP/1.1") from None
        except httptools.HttpParserError as exc:
            raise _refusal(exc) from None
        gathered.check()


class _Gathered:
    """What the parser has told of the request that arrives; its methods are the parser's calls."""

    parser: httptools.HttpRequestParser

    def __init__(self, body_cap: int) -> None:
        self._body_cap = body_cap
        self.done: list[HttpRequest] = []
        self.is_between_requests = self._is_in_head = True
        self.wants_continue = False
        self._head_bytes = 0
        self._begin()

    def _begin(self) -> None:
        self._request = HttpRequest()
        self._target = b""
        self._names = self._named_bytes = 0
        self._length = -1
        self._chunks = self._fed_bytes = 0
        self._expects = self._has_host = False

    def count(self, size: int) -> None:
        if self._is_in_head:
            self._head_bytes += size
        else:
            self._fed_bytes += size

    def check(self) -> None:
        if self._is_in_head:
            if self._head_bytes > HEAD_CAP_BYTES:
                raise RefusedError(431, f"a request's head may have {HEAD_CAP_BYTES} bytes")
        elif self._fed_bytes > _FRAMING_BYTES + _FRAMING * len(self._request.body):
            raise RefusedError(400, "the body's chunks say more of themselves than they hold")

    def on_message_begin(self) -> None:
        self.is_between_requests = False

    def on_url(self, url: bytes) -> None:
        self._target += url
        if len(self._target) > TARGET_CAP:
            raise RefusedError(414, f"a target may have {TARGET_CAP} bytes")

    def on_header(self, name: bytes, value: bytes | None) -> None:
        name, value = name.lower(), value or b""
        self._names += 1
        self._named_bytes += len(name) + len(value)
        if self._names > HEADERS_CAP:
            raise RefusedError(431, f"a request may have {HEADERS_CAP} headers")
        if not self._is_in_head:
            return  # a trailer: nothing here reads any
        if name in _READ:
            self._note(name, value)
        elif name == b"host":
            if self._has_host:
                raise RefusedError(400, "two Host headers")
            self._has_host = True
            self._request.headers["host"] = value.decode("latin-1")
        elif name == b"content-length":
            if self._length >= 0 or not value.isdigit():
                raise RefusedError(400, "Content-Length is not one number")
            self._length = int(value[:20])
        elif name == b"transfer-encoding":
            if value.lower() != b"chunked":
                raise RefusedError(501, "Transfer-Encoding: only chunked is served")
        elif name == b"expect":
            if value.lower() != b"100-continue":
                raise RefusedError(417, "only Expect: 100-continue is served")
            self._expects = True

    def _note(self, name: bytes, value: bytes) -> None:
        key, headers = name.decode("ascii"), self._request.headers
        if key in headers and not key.startswith("accept"):
            raise RefusedError(400, f"two {key} headers")
        headers[key] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        request, parser = self._request, self.parser
        self._is_in_head, self._head_bytes = False, 0
        request.method = parser.get_method().decode("ascii")
        request.target = self._target.decode("latin-1")
        request.keeps_alive = parser.should_keep_alive()
        version = parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise RefusedError(505, "expected HTTP/1.1 or HTTP/1.0")
        request.takes_chunks = version == "1.1"
        if not self._has_host and request.takes_chunks:
            raise RefusedError(400, "no Host header")
        if self._named_bytes + len(self._target) > HEAD_CAP_BYTES:
            raise RefusedError(431, f"a request's head may have {HEAD_CAP_BYTES} bytes")
        if self._length > self._body_cap:
            raise self._too_large()
        coding = request.headers.get("content-encoding", "identity").lower()
        if coding != "identity" and coding not in CODINGS:
            raise RefusedError(415, "Content-Encoding: expected gzip, deflate or none")
        self.wants_continue = self._expects and self._length != 0

    def on_chunk_header(self) -> None:
        self._chunks += 1
        if self._chunks > _FREE_CHUNKS + len(self._request.body) // _CHUNK_BYTES:
            raise RefusedError(400, f"chunks are too small; send at least {_CHUNK_BYTES} bytes")

    def on_body(self, body: bytes) -> None:
        request = self._request
        if not request.body:
            # Most bodies come whole, and then are what the parser made of them.
            request.body = body
            if len(body) > self._body_cap:
                raise self._too_large()
            return
        if isinstance(request.body, bytes):
            request.body = bytearray(request.body)
        request.body += body
        if len(request.body) > self._body_cap:
            raise self._too_large()

    def on_message_complete(self) -> None:
        request = self._request
        coding = request.headers.get("content-encoding", "identity").lower()
        if coding != "identity":
            request.coding = coding
        elif self._length == len(request.body) and request.keeps_alive:
            request.is_plain = not self._expects
        self.done.append(request)
        self._begin()
        self._is_in_head = self.is_between_requests = True
        self.wants_continue = False

    def _too_large(self) -> RefusedError:
        return RefusedError(413, f"a request may have {self._body_cap} bytes (limits.max_request)")


def _refusal(error: httptools.HttpParserError) -> RefusedError:
    if isinstance(error, httptools.HttpParserInvalidMethodError):
        return RefusedError(400, "the request line is not METHOD TARGET VERSION")
    if "PRI" in str(error):
        return RefusedError(505, "HTTP/2 is not served here")
    if isinstance(error, httptools.HttpParserInvalidURLError):
        return RefusedError(400, "expected a path")
    return RefusedError(400, f"not HTTP/1.1: {str(error)[:100]}")
