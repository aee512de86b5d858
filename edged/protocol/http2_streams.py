"""The streams of one HTTP/2 connection: how they are answered, and how they end.

Source: RFC 9113, section 5.
"""

from __future__ import annotations

from typing import Final, Protocol

from edged.protocol.frames import Buffer
from edged.protocol.http2_allowance import Allowance
from edged.protocol.http2_frames import (
    END_HEADERS,
    END_STREAM,
    HEAD_BYTES,
    WINDOW_CAP,
    BrokenConnectionError,
    BrokenStreamError,
    Reason,
    Type,
    encode,
    encode_reset,
    encode_window,
    head_of,
)
from edged.protocol.http2_headers import NO_TABLE
from edged.protocol.http2_outflow import Outflow, Waiting
from edged.protocol.http2_request import Request

STREAMS_CAP: Final = 128
"""Calls of one connection at once: RFC 9113 asks for a hundred at least, and clients queue more."""
STREAM_ROOM: Final = 256 << 10
"""What a client may send of a stream before it is known how much there will be: so much of each
stream may lie here, and a picture's bytes flow on while we make room for the rest of them."""
_GONE_CAP: Final = 256
"""Streams that we ended lately: what the client had sent by then is thrown away, not its fault."""


class Stream(Waiting):
    """One request and its answer."""

    __slots__ = ("expected", "is_over_in", "owner", "request", "room")

    def __init__(self, number: int, window: int, request: Request, *, is_over: bool) -> None:
        super().__init__(number, window)
        self.request = request
        self.is_over_in = is_over
        self.room = STREAM_ROOM
        self.expected = request.length
        """Bytes of the body that must follow; -1 where the client has not said."""
        self.owner: object = None


class Asked(Protocol):
    """Who is told what a client does; all of it within ``receive``."""

    def on_open(self, stream: Stream) -> None:
        """A request has begun; ``Streams.release`` is told once it is done with."""
        ...

    def on_data(self, stream: Stream, data: bytes) -> None:
        """A piece of its body; ``is_over_in`` says whether it was the last, and may be empty."""
        ...

    def on_reset(self, stream: Stream) -> None:
        """The client has withdrawn it, or broken a rule: there is nobody to answer any more."""
        ...


class Streams:
    """Those of one connection.

    Args:
        asked: is told of requests.
    """

    def __init__(self, asked: Asked) -> None:
        self.out: list[Buffer] = []
        """What is to be written; whoever does takes it out."""
        self.outflow = Outflow(self.out)
        self.by_number: dict[int, Stream] = {}
        self.busy = 0
        """Requests that are not released."""
        self.work = 0
        """Calls and messages that have come."""
        self.last = 0
        """The newest that the client has begun."""
        self.note = b""
        """What each header block begins with."""
        self.is_ending = False
        # A client that keeps its connection alive, measures the line with a PING after each answer
        # and gives windows back piece by piece sends a handful for each call, and earns more.
        self.idle = Allowance("frames that ask for nothing", 1000, 100)
        # One whose calls all run into their deadlines withdraws as many as it makes.
        self.resets = Allowance("calls that are withdrawn at once", 500, 100)
        self._asked = asked
        self._gone: dict[int, None] = {}

    def answer(
        self, stream: Stream, head: bytes, parts: list[Buffer], size: int, tail: bytes
    ) -> None:
        """All of an answer.

        Args:
            stream: what is answered.
            head: its header block.
            parts: the body.
            size: of the body, bytes.
            tail: the header block behind it.
        """
        number, outflow = stream.number, self.outflow
        if not outflow.fits(stream, size):
            self.begin(stream, head)
            self.send(stream, parts)
            self.finish(stream, tail)
            return
        out, note = self.out, self.note
        if note:
            head, tail = note + head, note + tail
        out.append(
            head_of(Type.HEADERS, END_HEADERS, number, len(head))
            + head
            + head_of(Type.DATA, 0, number, size)
        )
        out.extend(parts)
        out.append(head_of(Type.HEADERS, END_HEADERS | END_STREAM, number, len(tail)) + tail)
        outflow.take(stream, size)
        self._earn(4)
        self._close(stream)

    def begin(self, stream: Stream, head: bytes) -> None:
        """The header block in front of an answer's body."""
        self.out.append(encode(Type.HEADERS, END_HEADERS, stream.number, self.note + head))

    def send(self, stream: Stream, parts: list[Buffer]) -> None:
        """A piece of an answer's body; what the client does not take yet waits."""
        self._earn(4)
        self.outflow.put(stream, parts)
        self.close_ended()

    def finish(self, stream: Stream, tail: bytes) -> None:
        """The header block that ends an answer; also its only one."""
        self._earn(4)
        if self.outflow.end(stream, self._ending(stream, tail)):
            self._close(stream)

    def reset(self, stream: Stream, reason: Reason) -> None:
        """End a stream without an answer; nobody is told but the client."""
        if self.by_number.get(stream.number) is not stream:
            return
        self.out.append(encode_reset(stream.number, reason))
        self._forget(stream)

    def grant(self, stream: Stream, size: int) -> None:
        """Let the client send so many bytes more of a stream."""
        stream.room += size
        if not stream.is_over_in:
            self.out.append(encode_window(stream.number, size))

    def use_no_table(self) -> None:
        """Say in each block that no table is used, also in those that wait to be sent.

        The client's is smaller than the standard's.
        """
        self.note = NO_TABLE
        for stream in self.by_number.values():
            if stream.tail is not None:
                stream.tail = self._ending(stream, stream.tail[HEAD_BYTES:])

    def earn_message(self) -> None:
        """A whole message has come, of a call that has more than one frame."""
        self.work += 1
        self.idle.earn(2)

    def fits(self, size: int, grown: int) -> bool:
        """Whether the client takes an answer of so many bytes to a new call now, as one frame.

        Args:
            size: of the answer.
            grown: by how much the connection's window is about to grow.
        """
        outflow = self.outflow
        window = outflow.window + grown
        return size <= min(window, outflow.stream_window, outflow.frame_bytes, WINDOW_CAP - window)

    def pass_over(self, number: int, grown: int, windows: int, answer_bytes: int) -> None:
        """Note a whole call that was read and is answered elsewhere.

        Args:
            number: of its stream, which is new.
            grown: by how much it lets the connection's window grow.
            windows: frames of it that say that one grows.
            answer_bytes: of the answer, which ``fits``.
        """
        self.last = number
        self.work += 1
        self.outflow.window += grown - answer_bytes
        # As many as the same frames would earn and spend.
        self._earn(4 - min(windows, 4))

    def release(self) -> None:
        """A request that was opened is done with."""
        self.busy -= 1

    def check_known(self, number: int) -> None:
        """That a stream was there once.

        Raises:
            BrokenConnectionError: the client speaks of one that never began.
        """
        if not number & 1 or number > self.last:
            raise BrokenConnectionError(
                Reason.PROTOCOL_ERROR, "a frame on a stream that never began"
            )

    def is_gone(self, number: int) -> bool:
        """Whether we ended it lately, and what still comes is not the client's fault."""
        return number in self._gone

    def open(self, stream: Stream) -> None:
        """A request has begun."""
        self.by_number[stream.number] = stream
        self.busy += 1
        self.work += 1
        self._asked.on_open(stream)

    def refuse(self, number: int, fault: BrokenStreamError) -> None:
        """End one stream, by the client's fault."""
        self.out.append(encode_reset(number, fault.reason))
        stream = self.by_number.get(number)
        if stream is not None:
            self.lose(stream)
        self.note_gone(number)

    def lose(self, stream: Stream) -> None:
        """There is nobody to answer any more."""
        self._forget(stream)
        self._asked.on_reset(stream)

    def close_ended(self) -> None:
        """Those whose end had to wait for a window."""
        ended = self.outflow.ended
        while ended:
            stream = self.by_number.get(ended.pop().number)
            if stream is not None:
                self._close(stream)

    def note_gone(self, number: int) -> None:
        """We ended it, or never began it."""
        self._gone[number] = None
        if len(self._gone) > _GONE_CAP:
            del self._gone[next(iter(self._gone))]

    def ended_by_client(self, number: int) -> None:
        """What comes of it from now on is the client's fault: it sent its reset before."""
        self._gone.pop(number, None)

    def _ending(self, stream: Stream, tail: bytes) -> bytes:
        return encode(Type.HEADERS, END_HEADERS | END_STREAM, stream.number, self.note + tail)

    def _close(self, stream: Stream) -> None:
        """Our side has ended."""
        if not stream.is_over_in:
            # The rest of the request is of no use to anybody.
            self.out.append(encode_reset(stream.number, Reason.NO_ERROR))
        self._forget(stream)

    def _forget(self, stream: Stream) -> None:
        self.outflow.drop(stream)
        if self.by_number.pop(stream.number, None) is not None and not stream.is_over_in:
            self.note_gone(stream.number)

    def _earn(self, count: int) -> None:
        self.idle.earn(count)
        self.resets.earn()
