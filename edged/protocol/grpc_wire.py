"""gRPC on top of HTTP/2: what a request's headers ask for, messages out of its body, and answers.

Sans I/O. Messages come compressed with gzip or deflate where the client says so; answers are not:
on one device that costs time and saves nothing.
Source: the protocol's own description, PROTOCOL-HTTP2.md of grpc/grpc.
"""

from __future__ import annotations

import re
import zlib
from typing import Final

from edged.protocol.frames import Buffer
from edged.protocol.grpc_call import Metadata, Reply, Status
from edged.protocol.http2_headers import STATUS_200, encode_header
from edged.protocol.http2_request import TOO_LONG, Request

PREFIX_BYTES: Final = 5
_TYPE: Final = b"application/grpc"
_CODINGS: Final = {b"gzip": 31, b"deflate": zlib.MAX_WBITS}
_UNITS_NS: Final = {
    ord("H"): 3600 * 10**9, ord("M"): 60 * 10**9, ord("S"): 10**9,
    ord("m"): 10**6, ord("u"): 10**3, ord("n"): 1,
}  # fmt: skip
_OWN: Final = frozenset({b"te", b"content-type", b"content-length", b"user-agent"})
_PATH_BYTES: Final = 256
_TEXT_BYTES: Final = 2000
"""Of what is said about a failure; clients take headers up to 8 KiB."""
_UNSAFE: Final = re.compile(rb"[^\x20-\x24\x26-\x7E]")

_TYPE_HEADER: Final = encode_header(b"content-type", _TYPE)
HEAD: Final = STATUS_200 + _TYPE_HEADER
"""The headers in front of every answer."""
TAIL: Final = encode_header(b"grpc-status", b"0")
"""And behind it, where all went well."""
_STATUS_405: Final = encode_header(b":status", b"405")
_STATUS_415: Final = encode_header(b":status", b"415")


class CallError(Exception):
    """What the client did wrong in one call.

    Args:
        status: as it is told.
        text: why.
    """

    def __init__(self, status: Status, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class Asking:
    """What a request's headers ask for.

    Args:
        request: the headers.
    """

    __slots__ = ("coding", "metadata", "path", "refusal", "timeout_ns")

    def __init__(self, request: Request) -> None:
        self.path = request.pseudo[b":path"].decode("utf-8", "replace")
        self.metadata: Metadata = ()
        self.timeout_ns: int | None = None
        self.coding = 0
        """For zlib; 0 for none."""
        self.refusal: bytes | None = None
        """The header block that is all of the answer; None where there is nothing against it."""
        try:
            self._read(request)
        except CallError as exc:
            self.refusal = encode_only(Reply([], exc.status, exc.text))

    def _read(self, request: Request) -> None:
        headers = dict(request.headers)
        if request.pseudo[b":method"] != b"POST":
            self.refusal = _STATUS_405 + encode_header(b"allow", b"POST")
            return
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if kind not in (_TYPE, _TYPE + b"+proto"):
            self.refusal = _STATUS_415
            return
        if request.is_over:
            raise CallError(Status.RESOURCE_EXHAUSTED, TOO_LONG)
        if len(self.path) > _PATH_BYTES:
            raise CallError(Status.UNIMPLEMENTED, "there is no such method")
        if (timeout := headers.get(b"grpc-timeout")) is not None:
            self.timeout_ns = _timeout_ns(timeout)
        coding = headers.get(b"grpc-encoding", b"identity")
        if coding != b"identity":
            if coding not in _CODINGS:
                text = f"messages in {coding[:32].decode('ascii', 'replace')} are not read"
                raise CallError(Status.UNIMPLEMENTED, f"{text}; use gzip, deflate or identity")
            self.coding = _CODINGS[coding]
        self.metadata = tuple(
            (name.decode("ascii"), value.decode("utf-8", "replace"))
            for name, value in request.headers
            if name not in _OWN and not name.startswith(b"grpc-") and not name.endswith(b"-bin")
        )


def _timeout_ns(text: bytes) -> int:
    digits, unit = text[:-1], _UNITS_NS.get(text[-1]) if text else None
    if unit is None or not digits.isdigit() or len(digits) > 8:
        shown = text[:16].decode("ascii", "replace")
        raise CallError(Status.INVALID_ARGUMENT, f"grpc-timeout {shown!r} is no time, as 100m is")
    return int(digits) * unit


class Packed(bytes):
    """A message as it came, compressed: unpacked when it is asked for, and not while it waits."""


class MessageReader:
    """Messages out of one request's body.

    Args:
        cap: most bytes of a message, before and after decompression.
        coding: of those that are marked as compressed; 0 for none.
    """

    __slots__ = ("_body", "_cap", "_coding", "_is_packed", "_need", "_prefix")

    def __init__(self, cap: int, coding: int) -> None:
        self._cap = cap
        self._coding = coding
        self._prefix = b""
        self._need = -1
        self._body = bytearray()
        self._is_packed = False

    @property
    def missing(self) -> int:
        """Bytes of the message that has begun to arrive; 0 while none has."""
        if self._need >= 0:
            return self._need - len(self._body)
        return PREFIX_BYTES - len(self._prefix) if self._prefix else 0

    def feed(self, data: bytes) -> list[Buffer]:
        """Messages that are now whole; ``unpacked`` reads each.

        Raises:
            CallError: one is too long, or cannot be read.
        """
        found: list[Buffer] = []
        at, end = 0, len(data)
        while at < end:
            if self._need < 0:
                taken = data[at : at + PREFIX_BYTES - len(self._prefix)]
                self._prefix += taken
                at += len(taken)
                if len(self._prefix) < PREFIX_BYTES:
                    break
                self._begin()
            if not self._body and end - at >= self._need:
                message: Buffer = data[at : at + self._need]
                at += self._need
            else:
                piece = memoryview(data)[at : at + self._need - len(self._body)]
                self._body += piece
                at += len(piece)
                if len(self._body) < self._need:
                    break
                message, self._body = self._body, bytearray()
            self._need = -1
            found.append(Packed(message) if self._is_packed else message)
        return found

    def _begin(self) -> None:
        prefix, self._prefix = self._prefix, b""
        size = int.from_bytes(prefix[1:], "big")
        if prefix[0] > 1:
            raise CallError(Status.INTERNAL, "a message's prefix begins with neither 0 nor 1")
        if size > self._cap:
            raise CallError(Status.RESOURCE_EXHAUSTED, too_large(size, self._cap))
        self._is_packed = bool(prefix[0])
        if self._is_packed and not self._coding:
            text = "a message is marked as compressed, but grpc-encoding says nothing of it"
            raise CallError(Status.INTERNAL, text)
        self._need = size

    def unpacked(self, message: Buffer) -> Buffer:
        """A message that ``feed`` gave, as it was meant.

        Raises:
            CallError: it takes too much then, or is not of that coding.
        """
        if type(message) is not Packed:
            return message
        unpacker = zlib.decompressobj(self._coding)
        try:
            data = unpacker.decompress(message, self._cap + 1)
        except zlib.error as exc:
            raise CallError(Status.INTERNAL, "a message cannot be decompressed") from exc
        if len(data) > self._cap:
            text = f"a message takes more than {self._cap} bytes when it is decompressed"
            raise CallError(Status.RESOURCE_EXHAUSTED, f"{text} (limits.max_request)")
        if not unpacker.eof or unpacker.unused_data:
            raise CallError(Status.INTERNAL, "a message cannot be decompressed")
        return data


def too_large(size: int, cap: int) -> str:
    """What is wrong with a message over the limit."""
    return f"a message of {size} bytes; at most {cap} are read (limits.max_request)"


def encode_prefix(parts: list[Buffer]) -> tuple[bytes, int]:
    """What stands in front of a message, and the length of both."""
    size = 0
    for part in parts:
        size += part.nbytes if type(part) is memoryview else len(part)
    return size.to_bytes(PREFIX_BYTES, "big"), size + PREFIX_BYTES


def encode_tail(reply: Reply) -> bytes:
    """The header block that ends an answer."""
    if not reply.status and not reply.trailers:
        return TAIL
    parts = [encode_header(b"grpc-status", b"%d" % reply.status)]
    if reply.text:
        parts.append(encode_header(b"grpc-message", quoted(reply.text)))
    for name, text in reply.trailers:
        parts.append(encode_header(name.encode("ascii"), quoted(text)))
    return b"".join(parts)


def encode_only(reply: Reply) -> bytes:
    """The header block that is all of an answer without a message."""
    return HEAD + encode_tail(reply)


def quoted(text: str) -> bytes:
    """As a header may have it: what is not printable ASCII after a percent sign."""
    data = text.encode("utf-8", "replace")
    if len(data) > _TEXT_BYTES:
        data = data[:_TEXT_BYTES].decode("utf-8", "ignore").encode()
    return _UNSAFE.sub(lambda found: b"%%%02X" % found[0][0], data)
