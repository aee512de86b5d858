"""One connection of the native protocol as the asking side sees it: no socket, clock or thread.

A ``Conversation`` knows which requests wait for an answer, which calls are prepared, and what ended
it. The clients only add how bytes move and how one waits; what is asked is ``asking``'s.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from edged.errors import EdgedError, InvalidRequestError, RemoteProtocolError
from edged.messages import InferResponse
from edged.protocol import greeting, native, prepared, prepared_runs
from edged.protocol.asking import Plan
from edged.protocol.frames import Buffer, Frame, FrameReader, Kind, Limits
from edged.protocol.layout import BodyLayout
from edged.tensors import Array, TensorSpec

ANSWER_LIMITS = Limits(head_bytes=1 << 20, body_bytes=1 << 32)
"""Answers come from the daemon that the operator trusts; the caps only stop nonsense."""
_ANSWER = int(Kind.ANSWER)


class InferResult(dict[str, Array]):
    """Named outputs, and what the daemon says about them.

    Attributes:
        model: the model that answered.
        release: its release.
        generation: the configuration generation it was served under.
        queue_ns: time spent waiting for an instance.
        run_ns: time of the run.
        batch_rows: rows of the batch that the request was part of.
    """

    __slots__ = ("batch_rows", "generation", "model", "queue_ns", "release", "run_ns")

    def __init__(self, response: InferResponse) -> None:
        super().__init__(response.outputs)
        self.model = response.model
        self.release = response.release
        self.generation = response.generation
        self.queue_ns = response.queue_ns
        self.run_ns = response.run_ns
        self.batch_rows = response.batch_rows


class Opened(NamedTuple):
    """A prepared call as the daemon knows it on one connection."""

    handle: int
    outputs: tuple[TensorSpec, ...]
    answers: BodyLayout | None


class Asked:
    """A request on its way; ``frame`` or ``error`` end it.

    Args:
        model: what it asks; empty for a call.
        answers: the layout of its ANSWER, for a prepared call.
    """

    __slots__ = ("answers", "error", "frame", "model", "request_id", "wake")

    def __init__(self, model: str = "", answers: BodyLayout | None = None) -> None:
        self.model = model
        self.answers = answers
        self.request_id = 0
        self.frame: Frame | None = None
        self.error: EdgedError | None = None
        self.wake: Callable[[], object] | None = None

    @property
    def is_done(self) -> bool:
        """Whether the answer, or what went wrong, is known."""
        return self.frame is not None or self.error is not None

    def fail(self, error: EdgedError) -> None:
        """End it without an answer; the first end counts."""
        if self.frame is None and self.error is None:
            self.error = error
            if self.wake is not None:
                self.wake()

    def answer(self) -> Frame:
        """The frame that answered, or raise what ended it."""
        if self.error is not None:
            raise self.error
        assert self.frame is not None
        return self.frame

    def infer_result(self) -> InferResult:
        """Read the answer to a request for inference."""
        frame = self.answer()
        if frame.kind == _ANSWER:
            if self.answers is None:
                raise RemoteProtocolError("an ANSWER frame to a request that was not prepared")
            return InferResult(prepared_runs.decode_answer(frame, self.model, self.answers))
        response = native.decode_response(frame, self.model, ANSWER_LIMITS)
        if response.error is not None:
            raise response.error
        return InferResult(response)

    def reply(self) -> Any:
        """Read the answer to a CALL."""
        return native.decode_reply(self.answer())

    def opened(self) -> Opened:
        """Read the answer to a PREPARE."""
        frame = self.answer()
        if frame.kind != Kind.PREPARED:
            native.decode_reply(frame)  # raises what an ERROR says
            raise RemoteProtocolError("expected a PREPARED or ERROR frame, got a REPLY")
        head, answers = prepared.decode_prepared(frame, ANSWER_LIMITS)
        return Opened(head.handle, prepared.read_outputs(head), answers)


class Stream(Protocol):
    """What several answers to one request are kept in; see ``stream_asking.py``."""

    def put(self, frame: Frame) -> None:
        """A frame came."""
        ...

    def fail(self, error: EdgedError) -> None:
        """No more will come."""
        ...


class Conversation:
    """One connection as the asking side sees it."""

    def __init__(self) -> None:
        self.reader = FrameReader(ANSWER_LIMITS)
        self.waiting: dict[int, Asked] = {}
        self.streams: dict[int, Stream] = {}
        self.opened: dict[Plan, Opened] = {}
        self.error: EdgedError | None = None
        self.server = ""
        self.next_id = 1

    def add(self, asked: Asked) -> int:
        """Give a request the next id and wait for its answer; the caller sends it."""
        number = self.next_id
        self.next_id = number + 1
        asked.request_id = number
        self.waiting[number] = asked
        return number

    def take(self, count: int) -> None:
        """Take note of ``count`` bytes read into ``reader.next_buffer()``; hand out the answers.

        Raises:
            ConnectionError: what came is no frame; the answers before were handed out.
            EdgedError: what the server says of the connection, which it closes.
        """
        reader, waiting = self.reader, self.waiting
        reader.take(count)
        while True:
            try:
                frame = reader.next_frame()
            except RemoteProtocolError as exc:
                raise ConnectionAbortedError(exc.message) from exc
            if frame is None:
                return
            asked = waiting.pop(frame.request_id, None)
            if asked is not None:
                asked.frame = frame
                if asked.wake is not None:
                    asked.wake()
            elif frame.request_id == 0:
                self._read_for_all(frame)
            elif self.streams:
                self._read_for_stream(frame)

    def listen(self, asked: Asked, stream: Stream) -> None:
        """Keep several answers to a request that was added, until one of them ends it."""
        self.waiting.pop(asked.request_id, None)
        self.streams[asked.request_id] = stream
        if self.error is not None:
            # It may have ended before the line above, which then was not seen.
            stream.fail(self.error)

    def fail_one(self, asked: Asked, error: EdgedError) -> bool:
        """End a request here; returns False when it had been answered."""
        if self.waiting.pop(asked.request_id, None) is not None:
            asked.fail(error)
            return True
        stream = self.streams.pop(asked.request_id, None)
        if stream is not None:
            stream.fail(error)
        return stream is not None

    def end(self, error: EdgedError) -> EdgedError:
        """Fail what waits; returns what ended it, which may have been something before this."""
        error = self.error = self.error or error
        self.opened.clear()
        waiting, self.waiting = self.waiting, {}
        for asked in list(waiting.values()):
            asked.fail(error)
        streams, self.streams = self.streams, {}
        for stream in list(streams.values()):
            stream.fail(error)
        return error

    def _read_for_stream(self, frame: Frame) -> None:
        if frame.kind == Kind.PART:
            stream = self.streams.get(frame.request_id)
        else:
            stream = self.streams.pop(frame.request_id, None)
        if stream is not None:
            stream.put(frame)

    def _read_for_all(self, frame: Frame) -> None:
        if frame.kind == Kind.ERROR:
            # The server speaks about the connection itself and will close it.
            native.decode_reply(frame)
        elif frame.kind == Kind.WELCOME:
            with contextlib.suppress(InvalidRequestError):
                self.server = greeting.decode_welcome(frame).server


def hello_frame() -> list[Buffer]:
    """HELLO with the name of this program: sent before the first request, not waited for."""
    name = os.path.basename(sys.argv[0] if sys.argv else "") or "python"  # noqa: PTH119 - no path
    return greeting.encode_hello(name[:64])
