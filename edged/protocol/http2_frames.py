"""Frames of HTTP/2, in and out: cut off a byte stream, checked for size, and made.

Sans I/O. What a frame means to a connection is ``http2``'s.
Source: RFC 9113, sections 4, 6 and 7.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from edged.errors import RemoteProtocolError
from edged.protocol.frames import Buffer

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD_BYTES: Final = 9
FRAME_BYTES: Final = 16 << 10
"""The longest frame of every peer that has not said otherwise, and of those that we keep whole."""
DATA_BYTES: Final = 256 << 10
"""The longest DATA that a client may send: it is passed on in pieces, never kept, and as much as
one read of the socket gives. A frame for every 16 KiB of a camera's picture cost twice as much."""
WINDOW_CAP: Final = (1 << 31) - 1
WINDOW_START: Final = 65535


class Type(enum.IntEnum):
    """Kinds of frames; others are left out, as the standard asks."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITY: Final = 0x20


class Setting(enum.IntEnum):
    """What one side tells the other of itself."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class Reason(enum.IntEnum):
    """Why a stream or a connection ends."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


class BrokenConnectionError(RemoteProtocolError):
    """The connection cannot go on.

    Args:
        reason: as the peer is told.
        message: what it did.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class BrokenStreamError(RemoteProtocolError):
    """One stream cannot go on; the others can.

    Args:
        reason: as the peer is told.
        message: what it did.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Frame(NamedTuple):
    """A frame, or a piece of a DATA frame; ``FrameReader`` gives the bare tuple, which costs less.

    Args:
        type: a ``Type``, or a number that nobody knows.
        flags: as they were sent.
        stream: which one; 0 is the connection itself.
        payload: without padding where it is DATA.
        size: of the payload as it was sent, for flow control; 0 in all pieces but the first.
        is_last: nothing more follows of this frame.
    """

    type: int
    flags: int
    stream: int
    payload: bytes
    size: int
    is_last: bool


Cut = tuple[int, int, int, bytes, int, bool]
"""A ``Frame`` without its names."""

_HEAD: Final = struct.Struct(">BHBBL")
_KEPT: Final = frozenset(Type) - {Type.DATA}


class FrameReader:
    """Cuts frames off what a peer sends.

    DATA is passed on as it comes, so that no more than one short frame is ever kept here.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._type = self._flags = self._stream = 0
        self._left = self._padding = self._size = 0
        self._is_open = False

    @property
    def is_between_frames(self) -> bool:
        """Nothing of a frame has come whose rest has not."""
        return not self._rest and not self._is_open

    def feed(self, data: bytes) -> Iterator[Cut]:
        """Frames and pieces that are now there; each must be taken before the next ``feed``.

        Raises:
            BrokenConnectionError: a frame is longer than it may be.
        """
        if self._rest:
            data, self._rest = self._rest + data, b""
        at, end = 0, len(data)
        while True:
            if self._is_open:
                taken = min(self._left, end - at)
                piece = self._piece(data, at, taken)
                at += taken
                if piece is not None:
                    yield piece
                if self._is_open:
                    return
            if end - at < HEAD_BYTES:
                break
            high, low, kind, flags, stream = _HEAD.unpack_from(data, at)
            size = high << 16 | low
            stream &= 0x7FFFFFFF
            whole = at + HEAD_BYTES + size
            if kind == Type.DATA:
                if size > DATA_BYTES:
                    raise _too_long(kind, size)
                if whole > end or flags & PADDED:
                    self._begin(kind, flags, stream, size)
                    at += HEAD_BYTES
                    continue
            elif size > FRAME_BYTES:
                raise _too_long(kind, size)
            elif kind not in _KEPT:
                self._begin(kind, flags, stream, size)
                at += HEAD_BYTES
                continue
            elif whole > end:
                break
            yield kind, flags, stream, data[at + HEAD_BYTES : whole], size, True
            at = whole
        self._rest = data[at:]

    def _begin(self, kind: int, flags: int, stream: int, size: int) -> None:
        self._type, self._flags, self._stream = kind, flags, stream
        self._left = self._size = size
        # Not known before the first byte is there.
        self._padding = -1 if kind == Type.DATA and flags & PADDED else 0
        self._is_open = True

    def _piece(self, data: bytes, at: int, taken: int) -> Cut | None:
        """A piece of what is open; none while only its head is there."""
        if not taken and self._left:
            return None
        begin, end = at, at + taken
        if self._padding < 0:
            if not taken:
                raise BrokenConnectionError(
                    Reason.FRAME_SIZE_ERROR, "a padded frame has no padding"
                )
            self._padding = data[at]
            begin += 1
            if self._padding >= self._size:
                raise BrokenConnectionError(Reason.PROTOCOL_ERROR, "a frame is all padding")
        self._left -= taken
        self._is_open = self._left > 0
        kept = max(begin, min(end, end + self._left - self._padding))
        size, self._size = self._size, 0
        if self._type != Type.DATA and self._is_open:
            return None
        payload = data[begin:kept] if self._type == Type.DATA else b""
        return self._type, self._flags, self._stream, payload, size, not self._is_open


def _too_long(kind: int, size: int) -> BrokenConnectionError:
    most = DATA_BYTES if kind == Type.DATA else FRAME_BYTES
    return BrokenConnectionError(
        Reason.FRAME_SIZE_ERROR, f"a frame of type {kind} has {size} bytes; at most {most} are read"
    )


def head_of(kind: int, flags: int, stream: int, size: int) -> bytes:
    """The nine bytes in front of a payload."""
    return _HEAD.pack(size >> 16, size & 0xFFFF, kind, flags, stream)


def encode(kind: int, flags: int, stream: int, payload: Buffer = b"") -> bytes:
    """A short frame in one piece."""
    return head_of(kind, flags, stream, len(payload)) + payload


def encode_settings(settings: dict[Setting, int]) -> bytes:
    """What we tell the peer of ourselves."""
    body = b"".join(struct.pack(">HL", name, value) for name, value in settings.items())
    return encode(Type.SETTINGS, 0, 0, body)


def encode_window(stream: int, size: int) -> bytes:
    """Leave for so many bytes more."""
    return encode(Type.WINDOW_UPDATE, 0, stream, size.to_bytes(4, "big"))


def encode_reset(stream: int, reason: Reason) -> bytes:
    """The end of a stream."""
    return encode(Type.RST_STREAM, 0, stream, reason.to_bytes(4, "big"))


def encode_goaway(last: int, reason: Reason, text: str = "") -> bytes:
    """The end of a connection: streams after ``last`` were not looked at."""
    body = struct.pack(">LL", last, reason) + text.encode("ascii", "replace")[:200]
    return encode(Type.GOAWAY, 0, 0, body)
