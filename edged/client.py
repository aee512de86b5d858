"""The client for local applications: named NumPy arrays in, named NumPy arrays out.

    with edged.Client("/run/edged/edged.sock") as client:
        result = client.infer("digits", image=pixels)
        result["probabilities"]

Errors are ours, with the server's message. Usable from several threads: each call may be in flight
at the same time as others, and whoever waits reads for all.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from edged.errors import (
    DeadlineExceededError,
    DisconnectedError,
    EdgedError,
    InvalidRequestError,
    RemoteProtocolError,
)
from edged.messages import InferRequest, InferResponse
from edged.protocol import native
from edged.protocol.frames import Buffer, Frame, FrameReader, Kind, Limits
from edged.tensors import Array

DEFAULT_SOCKET = "/run/edged/edged.sock"
_GRACE_S = 2.0
"""How much longer than the request's own timeout the client waits: the server's answer, which says
where the time went, is worth more than our own "timed out"."""
_ANSWER_LIMITS = Limits(head_bytes=1 << 20, body_bytes=1 << 32)
"""Answers come from the daemon that the operator trusts; the caps only stop nonsense."""


class InferResult(dict[str, Array]):
    """Named outputs, and what the daemon says about them."""

    def __init__(self, response: InferResponse) -> None:
        super().__init__(response.outputs)
        self.model = response.model
        self.release = response.release
        self.generation = response.generation
        self.queue_ns = response.queue_ns
        self.run_ns = response.run_ns
        self.batch_rows = response.batch_rows


class Pending:
    """An answer that may still be on its way."""

    def __init__(self, client: Client, request_id: int, model: str, until: float | None) -> None:
        self._client = client
        self._until = until
        self.request_id = request_id
        self.model = model
        self.frame: Frame | None = None
        self.error: EdgedError | None = None

    @property
    def is_done(self) -> bool:
        """Whether ``result`` returns at once."""
        return self.frame is not None or self.error is not None

    def result(self) -> InferResult:
        """Wait for the answer.

        Raises:
            EdgedError: what the server says went wrong, or DisconnectedError.
        """
        response = native.decode_response(self.wait(), self.model, _ANSWER_LIMITS)
        if response.error is not None:
            raise response.error
        return InferResult(response)

    def wait(self) -> Frame:
        """Wait for the frame that answers."""
        self._client.read_until(self, self._until)
        if self.error is not None:
            raise self.error
        assert self.frame is not None
        return self.frame


class Client:
    """A connection to the daemon; made with the first call, made again after it broke.

    Args:
        path: the Unix socket; default $EDGED_SOCKET, else /run/edged/edged.sock.
        timeout: seconds an answer stays useful; sent with each request. None waits for ever.
    """

    def __init__(
        self, path: str | os.PathLike[str] | None = None, *, timeout: float | None = 10.0
    ) -> None:
        self.path = os.fspath(path or os.environ.get("EDGED_SOCKET") or DEFAULT_SOCKET)
        self.timeout = timeout
        self._socket: socket.socket | None = None
        self._reader = FrameReader(_ANSWER_LIMITS)
        self._pending: dict[int, Pending] = {}
        self._next_id = 1
        self._lock = threading.Lock()
        self._read_lock = threading.Lock()

    def __enter__(self) -> Client:  # noqa: PYI034 - typing.Self is not in Python 3.10
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close()

    def infer(
        self,
        model: str,
        inputs: Mapping[str, Array] | None = None,
        /,
        *,
        release: int | str | None = None,
        outputs: tuple[str, ...] = (),
        timeout: float | None = None,
        **tensors: Array,
    ) -> InferResult:
        """Ask a model and wait for its answer.

        Args:
            model: its name.
            inputs: arrays by input name, for names that are no Python words.
            release: a release number or an alias; None for the one the operator serves.
            outputs: the outputs wanted; empty for all.
            timeout: seconds the answer stays useful; None for the client's.
            **tensors: arrays by input name.

        Returns:
            Arrays by output name; ``.release`` and ``.generation`` say who answered.

        Raises:
            RequestError: the request cannot be answered as it is.
            BusyError: it may be answered later.
            RuntimeFailureError: the model failed.
        """
        pending = self.submit(
            model, inputs, release=release, outputs=outputs, timeout=timeout, **tensors
        )
        return pending.result()

    def submit(
        self,
        model: str,
        inputs: Mapping[str, Array] | None = None,
        /,
        *,
        release: int | str | None = None,
        outputs: tuple[str, ...] = (),
        timeout: float | None = None,
        **tensors: Array,
    ) -> Pending:
        """Send a request without waiting; many may be in flight on one connection."""
        named = {**(inputs or {}), **tensors}
        for name, array in named.items():
            if not hasattr(array, "dtype"):
                raise InvalidRequestError(
                    f'"{name}" is a {type(array).__name__}; expected an array'
                )
        request = InferRequest(model, named, release, tuple(outputs))
        seconds = self.timeout if timeout is None else timeout
        timeout_us = 0 if seconds is None else max(1, int(seconds * 1e6))
        return self._send(
            model, seconds, lambda number: native.encode_infer(number, request, timeout_us)
        )

    def call(self, verb: str, **arguments: Any) -> Any:
        """Ask the daemon itself, e.g. ``status`` or ``models``; returns plain values."""
        pending = self._send(
            "", self.timeout, lambda number: native.encode_call(number, verb, arguments)
        )
        return native.decode_reply(pending.wait())

    def status(self) -> dict[str, Any]:
        """What ``edged status`` shows."""
        document: dict[str, Any] = self.call("status")
        return document

    def models(self) -> list[dict[str, Any]]:
        """Every model with its releases, signature and state."""
        document: list[dict[str, Any]] = self.call("models")
        return document

    def close(self) -> None:
        """End the connection; calls that wait get DisconnectedError."""
        self._drop(DisconnectedError("the client was closed"))

    def read_until(self, pending: Pending, until: float | None) -> None:
        """Read for everybody until ``pending`` has its answer."""
        while not pending.is_done:
            with self._read_lock:
                if not pending.is_done:
                    self._read_some(pending, until)

    def _send(self, model: str, seconds: float | None, encode: Any) -> Pending:
        until = None if seconds is None else time.monotonic() + seconds + _GRACE_S
        with self._lock:
            sock = self._connect()
            number = self._next_id
            self._next_id += 1
            buffers = encode(number)
            pending = Pending(self, number, model, until)
            self._pending[number] = pending
            try:
                self._write(sock, buffers)
            except OSError as exc:
                error = _disconnected(self.path, exc)
                self._drop(error)
                raise error from exc
        return pending

    def _connect(self) -> socket.socket:
        if self._socket is not None:
            return self._socket
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            sock.connect(self.path)
        except OSError as exc:
            sock.close()
            raise DisconnectedError(
                f"cannot connect to {self.path}: {exc.strerror or exc}; is the daemon running "
                "(edged run), and may this user use its socket?"
            ) from exc
        sock.setblocking(False)
        self._reader = FrameReader(_ANSWER_LIMITS)
        self._socket = sock
        return sock

    def _write(self, sock: socket.socket, buffers: list[Buffer]) -> None:
        """Send everything; when the daemon waits for us to read first, read."""
        if sum(map(len, buffers)) <= 64 << 10:
            buffers = [b"".join(buffers)]
        for buffer in buffers:
            view = memoryview(buffer)
            while view:
                try:
                    view = view[sock.send(view) :]
                except BlockingIOError:
                    _wait(sock, select.POLLOUT | select.POLLIN, None)
                    if self._read_lock.acquire(blocking=False):
                        try:
                            self._receive(sock)
                        finally:
                            self._read_lock.release()

    def _read_some(self, pending: Pending, until: float | None) -> None:
        sock = self._socket
        if sock is None:
            pending.error = pending.error or DisconnectedError("the connection is closed")
            return
        left = None if until is None else until - time.monotonic()
        try:
            if (left is None or left > 0) and _wait(sock, select.POLLIN, left):
                self._receive(sock)
            else:
                self._pending.pop(pending.request_id, None)
                pending.error = DeadlineExceededError("no answer came in time")
        except (OSError, ValueError, RemoteProtocolError) as exc:
            # ValueError: another thread closed the socket between two lines of this one.
            self._drop(_disconnected(self.path, exc))

    def _receive(self, sock: socket.socket) -> None:
        """Take what is there, if anything, and hand out whole frames."""
        try:
            count = sock.recv_into(self._reader.next_buffer())
        except BlockingIOError:
            return
        if count == 0:
            raise ConnectionResetError("the daemon closed the connection")
        for frame in self._reader.received(count):
            self._dispatch(frame)
        self._reader.check()

    def _dispatch(self, frame: Frame) -> None:
        pending = self._pending.pop(frame.request_id, None)
        if pending is not None:
            pending.frame = frame
        elif frame.kind == Kind.ERROR and frame.request_id == 0:
            # The server speaks about the connection itself and will close it.
            try:
                native.decode_reply(frame)
            except EdgedError as exc:
                self._drop(exc)

    def _drop(self, error: EdgedError) -> None:
        sock, self._socket = self._socket, None
        if sock is not None:
            # Wakes a thread that waits in recv before the descriptor is given back.
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        waiting, self._pending = self._pending, {}
        for pending in waiting.values():
            pending.error = error


def _wait(sock: socket.socket, events: int, seconds: float | None) -> bool:
    """Whether the socket became usable in time.

    Poll, because a timeout set on the socket would be shared by the threads that send and read.
    """
    poll = select.poll()
    poll.register(sock, events)
    return bool(poll.poll(None if seconds is None else seconds * 1000))


def _disconnected(path: str, cause: BaseException) -> DisconnectedError:
    text = getattr(cause, "strerror", None) or str(cause)
    return DisconnectedError(f"the connection to {path} broke: {text}")
