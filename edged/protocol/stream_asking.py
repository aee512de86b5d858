"""Several answers to one request as the asking side sees them: kept in order until they are read.

A thread that reads for all puts them here while another takes them, so both hold a lock. Nothing
here waits: who waits looks at the request's ``frame`` and ``error``, as for one answer.
"""

from __future__ import annotations

import threading
from collections import deque

from edged.errors import EdgedError, InvalidRequestError, RemoteProtocolError
from edged.messages import InferResponse
from edged.protocol import native, streams
from edged.protocol.conversation import ANSWER_LIMITS, Asked, InferResult
from edged.protocol.frames import Frame, Kind

_PART = int(Kind.PART)
_UNKNOWN_KIND = f"unknown kind of frame: {int(Kind.STREAM)}"
"""What a daemon says that knows one answer to a request only."""


class StreamAnswer(InferResult):
    """One of several answers: named outputs, and what the daemon says about them.

    Attributes:
        index: its place, from 0.
        is_last: whether it is the end. The last one has what is not answered part by part.
    """

    __slots__ = ("index", "is_last")

    def __init__(self, response: InferResponse, index: int, *, is_last: bool) -> None:
        super().__init__(response)
        self.index = index
        self.is_last = is_last


class Received:
    """The frames of one stream that came and were not read.

    Args:
        asked: the request; its ``frame`` is the next of them.
        ahead: how many the daemon may send unread.
    """

    def __init__(self, asked: Asked, ahead: int) -> None:
        self._asked = asked
        self._ahead = ahead
        self._frames: deque[Frame] = deque()
        # Reentrant: whoever is collected while a frame is put here withdraws what it asked.
        self._lock = threading.RLock()
        self._error: EdgedError | None = None
        self._unsaid = 0
        self._next = 0
        self.is_over = False
        """Whether the end was read."""
        asked.frame = asked.error = None

    def put(self, frame: Frame) -> None:
        """A frame came."""
        asked = self._asked
        with self._lock:
            self._frames.append(frame)
            if asked.frame is not None:
                return
            asked.frame = frame
            wake = asked.wake
        if wake is not None:
            wake()

    def fail(self, error: EdgedError) -> None:
        """No more will come; what came before is read first."""
        with self._lock:
            if self._error is None:
                self._error = error
        self._asked.fail(error)  # heard at once where nothing is unread

    def take(self) -> StreamAnswer | None:
        """Read the next frame; None when it is the end and says nothing.

        Raises:
            EdgedError: what ended the stream.
        """
        asked = self._asked
        with self._lock:
            if not self._frames:
                self.is_over = True
                if asked.error is not None:
                    raise _told(asked.error)
                return None
            frame = self._frames.popleft()
            asked.frame = self._frames[0] if self._frames else None
            if asked.frame is None:
                asked.error = self._error
        return self._read(frame)

    def unsaid(self) -> int:
        """How many more answers the daemon may be told to send; 0 while that can wait."""
        if self.is_over or self._unsaid * 2 < self._ahead:
            return 0
        count, self._unsaid = self._unsaid, 0
        return count

    def _read(self, frame: Frame) -> StreamAnswer | None:
        asked = self._asked
        if frame.kind == _PART:
            response, index = streams.decode_part(frame, asked.model, ANSWER_LIMITS)
            if index != self._next:
                raise RemoteProtocolError(f"answer {index} came where {self._next} was expected")
            self._next += 1
            self._unsaid += 1
            return StreamAnswer(response, index, is_last=False)
        self.is_over = True
        response = native.decode_response(frame, asked.model, ANSWER_LIMITS)
        if response.error is not None:
            raise _told(response.error)
        return StreamAnswer(response, self._next, is_last=True) if response.outputs else None


def _told(error: EdgedError) -> EdgedError:
    """What a caller is told; of a daemon from before this, what that means."""
    if error.message != _UNKNOWN_KIND:
        return error
    return InvalidRequestError(
        "this daemon gives one answer to a request: it is older than stream(); use infer()"
    )
