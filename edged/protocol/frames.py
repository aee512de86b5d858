"""Native protocol, lower half: bytes to frames and back. No socket, clock, thread or file.

A frame is a fixed header, a msgpack head and a body of raw tensors::

    offset  size  field
         0     4  magic "EDGD"
         4     1  protocol version (1)
         5     1  kind (Kind)
         6     2  flags, must be zero
         8     8  request id, chosen by the client, echoed in every answer
        16     4  bytes of the head
        20     4  reserved, must be zero
        24     8  bytes of the body
        32     -  head, then zeros up to a multiple of 8, then the body

All numbers are little-endian. Bad lengths are refused before anything is allocated.
Full description: docs/protocol.md.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from edged.errors import LocalProtocolError, RemoteProtocolError

MAGIC = b"EDGD"
VERSION = 1
HEADER = struct.Struct("<4sBBHQIIQ")
HEADER_BYTES = HEADER.size
_HEADER = struct.Struct("<5sBHQIIQ")
_START = MAGIC + bytes([VERSION])
"""The header as it is read: magic and version are compared together."""
ALIGNMENT = 8
"""Every tensor starts at a multiple of 8, so that no element is ever read across its own size."""

_SCRATCH_BYTES = 64 << 10
"""One read of this size takes some hundred small frames; larger ones get a buffer of their own."""

Buffer = bytes | bytearray | memoryview


class Kind(enum.IntEnum):
    """What a frame says."""

    HELLO = 1
    WELCOME = 2
    INFER = 3
    RESULT = 4
    ERROR = 5
    CALL = 6
    REPLY = 7
    PREPARE = 8
    PREPARED = 9
    RUN = 10
    ANSWER = 11
    CANCEL = 12
    FORGET = 13
    STREAM = 14
    PART = 15
    MORE = 16
    STEP = 17
    LEND = 18
    READY = 19
    PASS = 20
    LENT = 21
    RECALL = 22
    BIND = 23
    BOUND = 24
    NEAR = 25


@dataclass(frozen=True, slots=True)
class Limits:
    """The most one frame may hold; each is checked before memory is taken for it.

    Args:
        head_bytes: a head names a few dozen tensors; 64 KiB is hundreds.
        body_bytes: the largest request; a 4K RGB frame has 24 MiB.
        tensors: the most a model may have (the manifest has the same cap).
        rank: NumPy's own limit is 64; no model here has more than 8 axes.
    """

    head_bytes: int = 64 << 10
    body_bytes: int = 64 << 20
    tensors: int = 64
    rank: int = 8


class Frame(NamedTuple):
    """One received frame; its memory belongs to it alone.

    Args:
        kind: what it says, a Kind or a number that this side does not know.
        request_id: the client's choice.
        head_bytes: length of the head, without padding.
        data: the whole frame, header included.
    """

    kind: int
    request_id: int
    head_bytes: int
    data: bytes | memoryview

    @property
    def head(self) -> memoryview:
        """A view of the head."""
        return memoryview(self.data)[HEADER_BYTES : HEADER_BYTES + self.head_bytes]

    @property
    def body(self) -> memoryview:
        """A view of the body."""
        end = HEADER_BYTES + self.head_bytes
        return memoryview(self.data)[end + padding(end) :]


def padding(size: int) -> int:
    """Zero bytes after ``size`` bytes up to the next aligned offset."""
    return -size % ALIGNMENT


def encode_frame(kind: Kind, request_id: int, head: bytes, body: list[Buffer]) -> list[Buffer]:
    """Make one frame as a list of buffers, to be written in order and not changed until sent.

    Args:
        kind: what it says.
        request_id: 0 to 2**64 - 1.
        head: msgpack bytes.
        body: buffers whose lengths already include alignment padding between tensors.
    """
    if not 0 <= request_id < 1 << 64:
        raise LocalProtocolError(f"request id {request_id} does not fit 64 bits")
    body_bytes = sum(len(part) for part in body)
    header = HEADER.pack(MAGIC, VERSION, kind, 0, request_id, len(head), 0, body_bytes)
    return [header + head + bytes(padding(HEADER_BYTES + len(head))), *body]


def renumbered(frame: list[Buffer], request_id: int) -> list[Buffer]:
    """The same frame, for another request."""
    data = b"".join(frame)
    return [data[:8] + request_id.to_bytes(8, "little") + data[16:]]


class FrameReader:
    """Cuts a byte stream into frames.

    A transport reads into ``next_buffer()``, which spares a copy for large frames, and reports
    ``take(n)``; then ``next_frame()`` gives one whole frame after the other. ``received(n)`` does
    both and ``feed(data)`` also copies: they return all frames, those before bytes that break the
    rules first, so whoever handled them calls ``check``.
    After a RemoteProtocolError the reader stays broken and says so again.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._most_head, self._most_body = limits.head_bytes, limits.body_bytes
        self._scratch = memoryview(bytearray(_SCRATCH_BYTES))
        self._start = 0
        self._end = 0
        self._large: memoryview | None = None
        self._large_filled = 0
        self._large_header = (0, 0, 0)
        self._error: RemoteProtocolError | None = None

    @property
    def is_between_frames(self) -> bool:
        """Whether the stream may end here."""
        return self._large is None and self._start == self._end

    @property
    def is_full(self) -> bool:
        """Whether the last read filled the scratch buffer: more may wait behind it."""
        return self._end == _SCRATCH_BYTES

    def next_buffer(self) -> memoryview:
        """Where the next bytes go; never empty once ``next_frame`` has returned None."""
        if self._large is not None:
            return self._large[self._large_filled :]
        if self._end == _SCRATCH_BYTES:
            self._compact()
        return self._scratch[self._end :] if self._end else self._scratch

    def peek(self) -> memoryview | None:
        """The bytes read last when nothing lies before them; None otherwise.

        Who can use them as they are does so, and need not ``take`` them.
        """
        if self._end or self._large is not None or self._error is not None:
            return None
        return self._scratch

    def check(self) -> None:
        """Raise what is wrong with the bytes behind the frames returned last, if anything is."""
        if self._error is not None:
            raise RemoteProtocolError(self._error.message)

    def drop(self) -> None:
        """Let go of a frame that will never be whole, at once: a reader may lie in a cycle."""
        self._large, self._large_filled = None, 0
        self._start = self._end = 0

    def take(self, count: int) -> None:
        """Take note of ``count`` bytes written into ``next_buffer()``."""
        if self._large is None:
            self._end += count
        else:
            self._large_filled += count

    def next_frame(self) -> Frame | None:
        """Cut off the next whole frame; None when more bytes are needed for it.

        Raises:
            RemoteProtocolError: what comes next is no frame.
        """
        start = self._start
        available = self._end - start
        if available < HEADER_BYTES:
            if available:
                return None
            self._start = self._end = 0
            return None if self._large is None else self._next_large(self._large)
        begin, kind, flags, request_id, head_bytes, reserved, body_bytes = _HEADER.unpack_from(
            self._scratch, start
        )
        if (
            begin != _START
            or flags
            or reserved
            or head_bytes > self._most_head
            or body_bytes > self._most_body
            or self._error is not None
        ):
            raise self._refuse(begin[:4], begin[4], flags or reserved, head_bytes, body_bytes)
        head_end = HEADER_BYTES + head_bytes
        total = head_end + -head_end % ALIGNMENT + body_bytes
        if total <= available:
            # Copied out of the scratch buffer: tensors outlive the next read.
            data = bytes(self._scratch[start : start + total])
            if total == available:
                self._start = self._end = 0
            else:
                self._start = start + total
            return Frame(kind, request_id, head_bytes, data)
        if total > _SCRATCH_BYTES:
            self._start_large(total, (kind, request_id, head_bytes))
        elif start + total > _SCRATCH_BYTES:
            self._compact()
        return None

    def received(self, count: int) -> list[Frame]:
        """Take note of ``count`` bytes written into ``next_buffer()``; return complete frames."""
        self.check()
        self.take(count)
        frames: list[Frame] = []
        try:
            while (frame := self.next_frame()) is not None:
                frames.append(frame)
        except RemoteProtocolError:
            if not frames:
                raise
        return frames

    def feed(self, data: Buffer) -> list[Frame]:
        """Copy ``data`` in; return complete frames."""
        frames: list[Frame] = []
        view = memoryview(data)
        while view and (self._error is None or not frames):
            buffer = self.next_buffer()
            count = min(len(buffer), len(view))
            buffer[:count] = view[:count]
            try:
                frames += self.received(count)
            except RemoteProtocolError:
                if not frames:
                    raise
            view = view[count:]
        return frames

    def _refuse(
        self, magic: bytes, version: int, reserved: int, head_bytes: int, body_bytes: int
    ) -> RemoteProtocolError:
        """Say what is wrong with a header, now and from now on."""
        if self._error is None:
            if magic != MAGIC:
                text = "not an edged frame: it does not start with EDGD"
            elif version != VERSION:
                text = f"protocol version {version}; this side speaks {VERSION}"
            elif reserved:
                text = "reserved bits of the header are set; they must be zero"
            elif head_bytes > self.limits.head_bytes:
                text = f"a head of {head_bytes} bytes; the limit is {self.limits.head_bytes}"
            else:
                text = (
                    f"a body of {body_bytes} bytes; the limit is {self.limits.body_bytes} "
                    "(limits.max_request)"
                )
            self._error = RemoteProtocolError(text)
        return RemoteProtocolError(self._error.message)

    def _start_large(self, total: int, header: tuple[int, int, int]) -> None:
        # np.empty does not clear the memory, which matters for a camera frame.
        self._large = np.empty(total, dtype=np.uint8).data
        self._large_header = header
        have = self._end - self._start
        self._large[:have] = self._scratch[self._start : self._end]
        self._large_filled = have
        self._start = self._end = 0

    def _next_large(self, data: memoryview) -> Frame | None:
        if self._large_filled < len(data):
            return None
        kind, request_id, head_bytes = self._large_header
        self._large = None
        return Frame(kind, request_id, head_bytes, data.toreadonly())

    def _compact(self) -> None:
        count = self._end - self._start
        self._scratch[:count] = bytes(self._scratch[self._start : self._end])
        self._start, self._end = 0, count
