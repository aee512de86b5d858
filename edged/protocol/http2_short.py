"""Calls of gRPC that arrive whole and alike: known by their bytes, answered in one piece.

A client that makes one call at a time sends each in one write: the same header block, made of
references into a table that no longer changes, and one message. Between two of them differ the
number of the stream and the tensors. Such a read is taken as what it is, without frames or streams;
whatever is unusual goes the long way through ``http2``. No socket, clock or thread.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from edged.protocol.grpc_wire import HEAD, PREFIX_BYTES, TAIL
from edged.protocol.http2_frames import (
    END_HEADERS,
    END_STREAM,
    HEAD_BYTES,
    WINDOW_CAP,
    Type,
    head_of,
)
from edged.protocol.http2_request import Request

if TYPE_CHECKING:
    from edged.protocol.http2 import Connection

SHORT_BYTES: Final = 8 << 10
"""What is larger takes longer to copy than to understand."""
ANSWER_BYTES: Final = 8 << 10
"""The longest answer that is made here: whether it may be sent is known before it is made."""
_ROOM: Final = ANSWER_BYTES + PREFIX_BYTES
_MOST: Final = 8
"""Lengths of reads that are remembered for one connection: a client asks for a few kinds."""
_HEAD: Final = struct.Struct(">BHBBL")
_NUMBER_BYTES: Final = 4


class Found(NamedTuple):
    """A call that was recognised.

    Args:
        number: of its stream.
        request: what its headers mean.
        message: that it brings.
        template: what was known of it.
    """

    number: int
    request: Request
    message: bytes
    template: Template


class Template:
    """What reads of one kind have in common: all but the number of the stream, and the message.

    Args:
        data: one of them.
        places: where its stream's number is.
        block: its list of headers.
        message: where its message begins and ends.
    """

    __slots__ = ("block", "data_bytes", "grown", "message", "places", "same", "windows")

    def __init__(
        self, data: bytes, places: list[int], block: bytes, message: tuple[int, int]
    ) -> None:
        self.block = block
        self.places = places
        self.message = message
        begins = [0, *[at + _NUMBER_BYTES for at in places], message[1]]
        ends = [*places, message[0], len(data)]
        spans = zip(begins, ends, strict=True)
        self.same = [(begin, end, data[begin:end]) for begin, end in spans if begin < end]
        self.data_bytes = message[1] - message[0] + PREFIX_BYTES
        self.grown = self.windows = 0
        """By how much the connection's window grows, and how many frames say so of any."""

    def number(self, data: bytes) -> int:
        """Of the stream that such a read is about; 0 for any other read."""
        for begin, end, same in self.same:
            if data[begin:end] != same:
                return 0
        first, *others = self.places
        number = data[first : first + _NUMBER_BYTES]
        for at in others:
            if data[at : at + _NUMBER_BYTES] != number:
                return 0
        return int.from_bytes(number, "big")


class ShortReads:
    """Those of one connection.

    Args:
        connection: that reads all others; it is told of each call that it did not see.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._templates: dict[int, Template] = {}

    def find(self, data: bytes) -> Found | None:
        """The call that these bytes are; None where they have to be read.

        Nothing has changed then, nor when there is a call: ``answer`` says that it was taken.
        """
        template = self._templates.get(len(data))
        connection = self._connection
        if template is None or not connection.is_clear:
            return None
        if not connection.streams.fits(_ROOM, template.grown):
            return None
        number = template.number(data)
        if not number & 1 or number <= connection.streams.last or number >> 31:
            return None
        request = connection.meaning_of(template.block)
        if request is None:
            return None
        begin, end = template.message
        return Found(number, request, data[begin:end], template)

    def learn(self, data: bytes) -> None:
        """Note what a read looks like that was one whole call, and was answered on the spot."""
        if len(data) > SHORT_BYTES:
            return
        template = _template(data)
        if template is not None:
            if len(self._templates) >= _MOST and len(data) not in self._templates:
                self._templates.clear()
            self._templates[len(data)] = template

    def answer(self, found: Found, message: bytes) -> bytes:
        """The whole answer to a call, which has been taken from here on.

        Args:
            found: the call.
            message: without its prefix; of ``ANSWER_BYTES`` at most.
        """
        number, size = found.number, len(message) + PREFIX_BYTES
        connection, read = self._connection, found.template
        connection.streams.pass_over(number, read.grown, read.windows, size)
        connection.progress += 1
        connection.take(read.data_bytes)
        stream = number.to_bytes(_NUMBER_BYTES, "big")
        return b"".join((
            _BEGIN, stream, _BEHIND, size.to_bytes(3, "big"), _DATA, stream,
            (size - PREFIX_BYTES).to_bytes(PREFIX_BYTES, "big"), message, _END, stream, TAIL,
        ))  # fmt: skip


def _without_number(kind: int, flags: int, size: int) -> bytes:
    return head_of(kind, flags, 0, size)[:-_NUMBER_BYTES]


_BEGIN: Final = _without_number(Type.HEADERS, END_HEADERS, len(HEAD))
_BEHIND: Final = HEAD
_DATA: Final = bytes((Type.DATA, 0))
_END: Final = _without_number(Type.HEADERS, END_HEADERS | END_STREAM, len(TAIL))


def _template(data: bytes) -> Template | None:
    """Of HEADERS, windows that grow, and DATA that ends the stream; None for anything else."""
    at, places, block = 0, [], b""
    message: tuple[int, int] | None = None
    number = grown = windows = 0
    while len(data) - at >= HEAD_BYTES:
        high, low, kind, flags, stream = _HEAD.unpack_from(data, at)
        begin = at + HEAD_BYTES
        at = begin + (high << 16 | low)
        if not number:
            if kind != Type.HEADERS or flags != END_HEADERS or at > len(data):
                return None
            number, block = stream, data[begin:at]
        elif kind == Type.DATA and message is None and flags == END_STREAM:
            message = (begin + PREFIX_BYTES, at)
        elif kind == Type.WINDOW_UPDATE and at == begin + 4:
            windows += 1
            grown += 0 if stream else int.from_bytes(data[begin:at], "big") & WINDOW_CAP
        else:
            return None
        if (stream == number and message is None) or kind == Type.DATA:
            places.append(begin - _NUMBER_BYTES)
        elif stream:
            return None
    if at != len(data) or message is None or message[0] > message[1]:
        return None
    made = Template(data, places, block, message)
    made.grown, made.windows = grown, windows
    return made
