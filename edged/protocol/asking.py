"""The asking side of the native protocol, shared by every client: no socket, clock or thread.

A ``Conversation`` is what one connection knows: which requests wait for an answer, which calls are
prepared, and what ended it. The clients only add how bytes move and how one waits.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from edged.errors import (
    EdgedError,
    InvalidRequestError,
    RemoteProtocolError,
    TensorMismatchError,
)
from edged.messages import (
    InferRequest,
    InferResponse,
    PrepareRequest,
)
from edged.protocol import greeting, native, prepared
from edged.protocol.frames import Buffer, Frame, FrameReader, Kind, Limits
from edged.protocol.keys import Key, key_text
from edged.protocol.layout import BodyLayout
from edged.tensors import ALL_DTYPES, BATCH, DTYPES, Array, TensorSpec

ANSWER_LIMITS = Limits(head_bytes=1 << 20, body_bytes=1 << 32)
"""Answers come from the daemon that the operator trusts; the caps only stop nonsense."""
DEFAULT_SOCKET = "/run/edged/edged.sock"
GRACE_S = 2.0
"""How much longer than the request's own timeout a client waits: the server's answer, which says
where the time went, is worth more than our own "timed out"."""
_TIMEOUT_CAP_S = 1e9
"""Thirty years: what is longer, or no number, is a mistake and not a timeout."""
_ANSWER = int(Kind.ANSWER)
_ARRAYS = (np.ndarray, np.generic)

Layout = tuple[tuple[int | None, ...], str]


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
            return InferResult(prepared.decode_answer(frame, self.model, self.answers))
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


def socket_path(path: str | os.PathLike[str] | None) -> str:
    """The socket to use: the one given, $EDGED_SOCKET, or the usual one."""
    return os.fspath(path or os.environ.get("EDGED_SOCKET") or DEFAULT_SOCKET)


def timeout_us(seconds: float | None) -> int:
    """A timeout as the wire has it.

    Raises:
        InvalidRequestError: it is no number of seconds.
    """
    if seconds is None:
        return 0
    if not seconds < _TIMEOUT_CAP_S:
        raise InvalidRequestError(
            f"timeout {seconds}: expected a number of seconds (Client(timeout=None): no limit)"
        )
    return max(1, int(seconds * 1e6))


def infer_request(
    model: str,
    inputs: Mapping[str, Array] | None,
    tensors: Mapping[str, Array],
    release: int | str | None,
    outputs: tuple[str, ...],
    *,
    key: Key = None,
) -> InferRequest:
    """A request of what a caller gave.

    Raises:
        InvalidRequestError: something that is no array, or a key that is none.
    """
    named = named_arrays(inputs, tensors)
    return InferRequest(model, named, release, tuple(outputs), asker=key_text(key))


def named_arrays(
    inputs: Mapping[str, Array] | None, tensors: Mapping[str, Array]
) -> dict[str, Array]:
    """Both ways of giving arrays as one, each looked at.

    Raises:
        InvalidRequestError: something that is no array.
    """
    named = {**(inputs or {}), **tensors}
    for name, array in named.items():
        if not isinstance(array, _ARRAYS):
            raise _no_array(name, array)
    return named


def _no_array(name: str, given: object) -> InvalidRequestError:
    return InvalidRequestError(f'"{name}" is a {type(given).__name__}; expected a NumPy array')


def prepare_request(
    model: str,
    inputs: Mapping[str, Layout] | None,
    layouts: Mapping[str, Layout],
    release: int | str | None,
    outputs: tuple[str, ...],
) -> PrepareRequest:
    """What to prepare, of ``name=(shape, dtype)`` with None for a free first axis.

    Raises:
        InvalidRequestError: a layout that is none.
    """
    specs = []
    for name, layout in {**(inputs or {}), **layouts}.items():
        try:
            shape, given = layout
            dtype = given if given == "bfloat16" else np.dtype(given).name
            axes = tuple(None if axis is None else int(axis) for axis in shape)
        except (TypeError, ValueError) as exc:
            raise InvalidRequestError(
                f'"{name}": {layout!r}; expected (shape, dtype), as ((None, 64), "float32")'
            ) from exc
        if dtype not in ALL_DTYPES:
            raise TensorMismatchError(
                f'"{name}": dtype {dtype}; a prepared call carries {", ".join(DTYPES)}, bfloat16'
            )
        if None in axes[1:] or any(axis is not None and axis < 1 for axis in axes):
            raise InvalidRequestError(
                f'"{name}": shape {shape!r}; expected numbers from 1, or None for the first axis'
            )
        rest = tuple(axis for axis in axes[1:] if axis is not None)
        first = tuple(BATCH if axis is None else axis for axis in axes[:1])
        specs.append(TensorSpec(name, dtype, (*first, *rest)))
    return PrepareRequest(model, tuple(specs), release, tuple(outputs))


class Plan:
    """A prepared call on the asking side: the layout, whichever connection it is used on.

    Args:
        request: what is prepared.
    """

    def __init__(self, request: PrepareRequest) -> None:
        self.request = request
        self.layout = BodyLayout(request.inputs)
        self.names = tuple(spec.name for spec in request.inputs)

    def by_position(self, arrays: tuple[Array, ...]) -> dict[str, Array]:
        """Name arrays that were given in the order of the layout."""
        if len(arrays) != len(self.names):
            raise InvalidRequestError(
                f"{len(arrays)} arrays; this call was prepared for {', '.join(self.names)}"
            )
        return dict(zip(self.names, arrays, strict=True))

    def frame(
        self,
        handle: int,
        tensors: Mapping[str, Array],
        wait_us: int,
        number: int,
        key: str | None = None,
    ) -> list[Buffer]:
        """A RUN frame.

        Raises:
            TensorMismatchError: the tensors are not of the layout.
            InvalidRequestError: something that is no array.
        """
        for name, array in tensors.items():
            if type(array) is not np.ndarray and not isinstance(array, _ARRAYS):
                raise _no_array(name, array)
        layout = self.layout
        head = prepared.RunHead(handle, layout.rows_of(tensors), wait_us, key)
        return prepared.encode_run(number, head, layout, tensors)
