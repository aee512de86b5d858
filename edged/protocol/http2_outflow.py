"""What waits to be sent over HTTP/2: as much as the client's windows allow, in turn over streams.

Decides sizes and order of DATA frames; never what is in them.
Source: RFC 9113, section 5.2.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from edged.protocol.frames import Buffer
from edged.protocol.http2_frames import (
    FRAME_BYTES,
    WINDOW_CAP,
    WINDOW_START,
    BrokenConnectionError,
    BrokenStreamError,
    Reason,
    Type,
    head_of,
)

_SMALL_BYTES: Final = 512
"""A window that lets less than this through makes frames that are mostly head."""
_TURN_FRAMES: Final = 4
"""Of one stream before the next one's."""


class Waiting:
    """What one stream has not sent yet.

    Args:
        stream: its number.
        window: how much of it the client takes.
    """

    __slots__ = ("data", "number", "size", "tail", "window")

    def __init__(self, number: int, window: int) -> None:
        self.number = number
        self.window = window
        self.data: deque[memoryview] = deque()
        self.size = 0
        self.tail: bytes | None = None
        """Frames behind the last byte, which end the stream; None while more may come."""


class Outflow:
    """The sending side of one connection.

    Args:
        out: where frames are put, in their order.
    """

    def __init__(self, out: list[Buffer]) -> None:
        self._out = out
        self.window = WINDOW_START
        self.stream_window = WINDOW_START
        self.frame_bytes = FRAME_BYTES
        self.waiting_bytes = 0
        self.small_frames = 0
        """Frames that a tiny window made; whoever looks at it sets it back."""
        self.ended: list[Waiting] = []
        """Streams whose end has been sent after it had to wait; whoever looks at it empties it."""
        self._waiting: dict[int, Waiting] = {}

    @property
    def is_empty(self) -> bool:
        """Nothing waits for a window."""
        return not self._waiting

    def fits(self, one: Waiting, size: int) -> bool:
        """Whether so many bytes can leave at once and as one frame."""
        return (
            not one.size
            and size <= one.window
            and size <= self.window
            and size <= self.frame_bytes
        )  # fmt: skip

    def take(self, one: Waiting, size: int) -> None:
        """So many bytes leave at once."""
        one.window -= size
        self.window -= size

    def put(self, one: Waiting, parts: list[Buffer]) -> None:
        """More bytes of a stream, after those that wait; sent as far as the windows allow."""
        for part in parts:
            view = memoryview(part).cast("B")
            if view.nbytes:
                one.data.append(view)
                one.size += view.nbytes
                self.waiting_bytes += view.nbytes
        if one.size:
            self._waiting[one.number] = one
            self.flush()

    def end(self, one: Waiting, tail: bytes) -> bool:
        """These frames end the stream, once all that waits has left; returns whether it has."""
        if not one.size:
            self._out.append(tail)
            return True
        one.tail = tail
        return False

    def drop(self, one: Waiting) -> None:
        """The stream is no more."""
        self.waiting_bytes -= one.size
        one.data.clear()
        one.size = 0
        self._waiting.pop(one.number, None)

    def grow(self, size: int) -> None:
        """The client takes more over all streams.

        Raises:
            BrokenConnectionError: more than there can be.
        """
        if not size or self.window + size > WINDOW_CAP:
            raise _overflow(size)
        self.window += size
        if self._waiting:
            self.flush()

    def grow_stream(self, one: Waiting, size: int) -> None:
        """The client takes more of one stream.

        Raises:
            BrokenStreamError: more than there can be.
        """
        if not size or one.window + size > WINDOW_CAP:
            fault = _overflow(size)
            raise BrokenStreamError(fault.reason, fault.message)
        one.window += size
        if one.size:
            self.flush()

    def flush(self) -> None:
        """Send what can be sent."""
        waiting = self._waiting
        while self.window > 0:
            ready = [one for one in waiting.values() if one.window > 0]
            if not ready:
                break
            for one in ready:
                if self.window <= 0:
                    break
                for _ in range(_TURN_FRAMES):
                    if not one.size or one.window <= 0 or self.window <= 0:
                        break
                    self._send(one)
                # Behind the others, who come first next time.
                del waiting[one.number]
                if one.size:
                    waiting[one.number] = one
                elif one.tail is not None:
                    self._out.append(one.tail)
                    self.ended.append(one)

    def _send(self, one: Waiting) -> None:
        room = min(one.window, self.window, self.frame_bytes, one.size)
        if room < _SMALL_BYTES and room < one.size:
            self.small_frames += 1
        self._out.append(head_of(Type.DATA, 0, one.number, room))
        one.window -= room
        self.window -= room
        one.size -= room
        self.waiting_bytes -= room
        while room:
            view = one.data[0]
            if view.nbytes <= room:
                self._out.append(view)
                room -= view.nbytes
                one.data.popleft()
            else:
                self._out.append(view[:room])
                one.data[0] = view[room:]
                room = 0


def _overflow(size: int) -> BrokenConnectionError:
    if not size:
        return BrokenConnectionError(Reason.PROTOCOL_ERROR, "a window grows by nothing")
    return BrokenConnectionError(Reason.FLOW_CONTROL_ERROR, "a window grows over 2^31 - 1")
