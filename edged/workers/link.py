"""The bytes to and from one worker: requests out, answers in, over its socket.

Decides what an answer means. It never waits but in ``exchange``, and never ends the process:
whoever uses it does, when it raises.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Mapping

from edged.errors import EdgedError, RemoteProtocolError, RunError, TensorMismatchError
from edged.messages import InferRequest
from edged.protocol import native, prepared, prepared_runs, streams
from edged.protocol.frames import Buffer, Frame, FrameReader, Kind
from edged.protocol.layout import BodyLayout
from edged.protocol.prepared_runs import RunHead
from edged.protocol.repeats import Repeats
from edged.tensors import Array, TensorSpec
from edged.workers.worker import HANDLE, LIMITS, has_fixed_places

_JOINED_BYTES = 64 << 10
"""Up to here one copy costs less than one more system call."""


class WorkerLink:
    """Our end of a worker's socket.

    Args:
        sock: not blocking; stays the caller's.
        model: the model's name.
    """

    def __init__(self, sock: socket.socket, model: str) -> None:
        self._sock = sock
        self._model = model
        self._reader = FrameReader(LIMITS)
        self._repeats = Repeats()
        self._number = 0
        self._inputs: BodyLayout | None = None
        self._answers: BodyLayout | None = None
        self._unsent: list[memoryview] = []

    @property
    def is_sending(self) -> bool:
        """Whether a part of the last request has not left yet."""
        return bool(self._unsent)

    @property
    def has_layout(self) -> bool:
        """Whether frames of both directions are short."""
        return self._inputs is not None and self._answers is not None

    def is_awaited(self, frame: Frame) -> bool:
        """Whether a frame answers the last request."""
        return frame.request_id == self._number

    def call(self, verb: str, arguments: dict[str, object]) -> None:
        """Make a CALL the next thing to send."""
        self._number += 1
        self._unsent = _views(native.encode_call(self._number, verb, arguments))

    def agree(self, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> None:
        """Take the layout that the load named for the runs to come."""
        if has_fixed_places(inputs):
            self._inputs = BodyLayout(inputs)
            self._answers = prepared.answer_layout(outputs)

    def request(self, inputs: Mapping[str, Array]) -> None:
        """Make a run the next thing to send."""
        self._number += 1
        layout = self._inputs
        if layout is not None:
            head = RunHead(HANDLE, layout.rows_of(inputs), 0)
            with contextlib.suppress(TensorMismatchError):
                self._unsent = _views(prepared_runs.encode_run(self._number, head, layout, inputs))
                return
        buffers = self._repeats.encode(Kind.INFER, self._number, inputs)
        if buffers is None:
            request = InferRequest(self._model, inputs)
            buffers = native.encode_infer(self._number, request)
            self._repeats.learn(inputs, buffers)
        self._unsent = _views(buffers)

    def stream(self, inputs: Mapping[str, Array]) -> None:
        """Make a request that is answered piece by piece the next thing to send."""
        self._number += 1
        request = InferRequest(self._model, inputs)
        self._unsent = _views(streams.encode_stream(self._number, request))

    def withdraw(self) -> None:
        """Make a word that no more of the last request is wanted the next thing to send."""
        self._unsent += _views(native.encode_cancel(self._number))

    def send(self) -> None:
        """Send as much as goes without waiting.

        Raises:
            OSError: the other end is closed.
        """
        while self._unsent:
            first = self._unsent[0]
            try:
                sent = self._sock.send(first)
            except BlockingIOError:
                return
            if sent < len(first):
                self._unsent[0] = first[sent:]
            else:
                del self._unsent[0]

    def forget(self) -> None:
        """Send nothing more of the last request."""
        self._unsent = []

    def has_answer(self) -> bool:
        """Whether bytes came that nobody has taken yet."""
        try:
            return bool(self._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:
            return False

    def receive(self) -> list[Frame] | None:
        """Take what is there: frames that answer the last request, or None when there is nothing.

        Raises:
            ConnectionError: the other end is closed.
            RemoteProtocolError: what came is not the protocol.
        """
        try:
            count = self._sock.recv_into(self._reader.next_buffer())
        except BlockingIOError:
            return None
        if count == 0:
            raise ConnectionResetError
        try:
            frames = self._reader.received(count)
            self._reader.check()
        except MemoryError as exc:
            raise RemoteProtocolError("a frame larger than there is memory for") from exc
        return [frame for frame in frames if self.is_awaited(frame)]

    def exchange(self, until: float) -> Frame:
        """Send what is to be sent, and wait for the frame that answers.

        Args:
            until: monotonic time, seconds.

        Raises:
            TimeoutError: it did not come.
            OSError: the other end is closed.
            RemoteProtocolError: what came is not the protocol.
        """
        while self._unsent:
            self._wait(select.POLLOUT, until)
            self.send()
        while True:
            self._wait(select.POLLIN, until)
            for frame in self.receive() or ():
                return frame

    def outputs(self, frame: Frame) -> dict[str, Array]:
        """What a frame answers.

        Raises:
            RunError: the model failed.
            RemoteProtocolError: the frame is no answer.
        """
        if frame.kind == Kind.ANSWER and self._answers is not None:
            try:
                return dict(prepared_runs.decode_answer(frame, self._model, self._answers).outputs)
            except EdgedError as exc:
                raise RemoteProtocolError(f"an answer that is none: {exc.message}") from exc
        if frame.kind == Kind.RESULT:
            known = self._repeats.decode(frame)
            if known is not None:
                return known
        try:
            response = native.decode_response(frame, self._model, LIMITS)
        except EdgedError as exc:
            # Not the caller's fault, whatever its class says.
            raise RemoteProtocolError(f"an answer that is none: {exc.message}") from exc
        if response.error is not None:
            error = response.error
            raise error if isinstance(error, RunError) else RunError(error.message)
        outputs = dict(response.outputs)
        self._repeats.learn_layout(frame, outputs)
        return outputs

    def _wait(self, events: int, until: float) -> None:
        poll = select.poll()
        poll.register(self._sock, events)
        if not poll.poll(max(0.0, until - time.monotonic()) * 1000):
            raise TimeoutError


def _views(buffers: list[Buffer]) -> list[memoryview]:
    if len(buffers) > 1 and sum(map(len, buffers)) <= _JOINED_BYTES:
        return [memoryview(b"".join(buffers))]
    return [memoryview(buffer) for buffer in buffers if buffer]
