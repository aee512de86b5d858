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
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

import numpy as np

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
_TIMEOUT_CAP_S = 1e9
"""Thirty years: what is longer, or no number, is a mistake and not a timeout."""
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


class _Link:
    """One connection with all that is on its way over it.

    What breaks, breaks for this one alone: a thread that still reads a dead connection must not
    touch the one that another thread has made since.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.reader = FrameReader(_ANSWER_LIMITS)
        self.pending: dict[int, Pending] = {}
        self.error: EdgedError | None = None


class Pending:
    """An answer that may still be on its way."""

    def __init__(
        self, client: Client, link: _Link, request_id: int, model: str, until: float | None
    ) -> None:
        self._client = client
        self._until = until
        self.link = link
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
        self._link: _Link | None = None
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
            if not isinstance(array, np.ndarray | np.generic):
                raise InvalidRequestError(
                    f'"{name}" is a {type(array).__name__}; expected a NumPy array'
                )
        request = InferRequest(model, named, release, tuple(outputs))
        seconds = self.timeout if timeout is None else timeout
        if seconds is not None and not seconds < _TIMEOUT_CAP_S:
            raise InvalidRequestError(
                f"timeout {seconds}: expected a number of seconds (Client(timeout=None): no limit)"
            )
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
        if self._link is not None:
            self._drop(self._link, DisconnectedError("the client was closed"))

    def read_until(self, pending: Pending, until: float | None) -> None:
        """Read for everybody until ``pending`` has its answer."""
        while not pending.is_done:
            left = -1 if until is None else max(0.0, until - time.monotonic())
            if not self._read_lock.acquire(timeout=left):
                _give_up(pending)
                return
            try:
                if not pending.is_done:
                    self._read_some(pending, until)
            finally:
                self._read_lock.release()

    def _send(
        self, model: str, seconds: float | None, encode: Callable[[int], list[Buffer]]
    ) -> Pending:
        until = None if seconds is None else time.monotonic() + seconds + _GRACE_S
        with self._lock:
            link = self._connect()
            number = self._next_id
            self._next_id += 1
            buffers = encode(number)
            pending = Pending(self, link, number, model, until)
            link.pending[number] = pending
            try:
                self._write(link, buffers, until)
            except (OSError, ValueError, RemoteProtocolError) as exc:
                if not isinstance(exc, TimeoutError):
                    self._read_last_words(link)
                error = self._drop(link, _disconnected(self.path, exc))
                raise error from exc
        return pending

    def _connect(self) -> _Link:
        if self._link is not None:
            return self._link
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
        self._link = _Link(sock)
        return self._link

    def _write(self, link: _Link, buffers: list[Buffer], until: float | None) -> None:
        """Send everything; when the daemon waits for us to read first, read.

        Raises:
            TimeoutError: half a request was sent, so the connection is of no more use.
        """
        if sum(map(len, buffers)) <= 64 << 10:
            buffers = [b"".join(buffers)]
        for buffer in buffers:
            view = memoryview(buffer)
            while view:
                try:
                    view = view[link.sock.send(view) :]
                except BlockingIOError:
                    left = None if until is None else until - time.monotonic()
                    if left is not None and left <= 0:
                        raise TimeoutError("the daemon does not read; is it stopped?") from None
                    _wait(link.sock, select.POLLOUT | select.POLLIN, left)
                    if self._read_lock.acquire(blocking=False):
                        try:
                            self._receive(link)
                        finally:
                            self._read_lock.release()

    def _read_last_words(self, link: _Link) -> None:
        """The daemon closed while we wrote: it may have said why, and that is worth more."""
        with self._read_lock, contextlib.suppress(OSError, ValueError, RemoteProtocolError):
            while link.error is None and _wait(link.sock, select.POLLIN, 0):
                self._receive(link)

    def _read_some(self, pending: Pending, until: float | None) -> None:
        link = pending.link
        if link.error is not None:
            pending.error = link.error
            return
        left = None if until is None else until - time.monotonic()
        if left is not None and left <= 0:
            _give_up(pending)
            return
        try:
            if _wait(link.sock, select.POLLIN, left):
                self._receive(link)
        except (OSError, ValueError, RemoteProtocolError) as exc:
            # ValueError: another thread closed the socket between two lines of this one.
            self._drop(link, _disconnected(self.path, exc))

    def _receive(self, link: _Link) -> None:
        """Take what is there, if anything, and hand out whole frames."""
        try:
            count = link.sock.recv_into(link.reader.next_buffer())
        except BlockingIOError:
            return
        if count == 0:
            raise ConnectionResetError("the daemon closed the connection")
        for frame in link.reader.received(count):
            self._dispatch(link, frame)
        link.reader.check()

    def _dispatch(self, link: _Link, frame: Frame) -> None:
        pending = link.pending.pop(frame.request_id, None)
        if pending is not None:
            pending.frame = frame
        elif frame.kind == Kind.ERROR and frame.request_id == 0:
            # The server speaks about the connection itself and will close it.
            try:
                native.decode_reply(frame)
            except EdgedError as exc:
                self._drop(link, exc)

    def _drop(self, link: _Link, error: EdgedError) -> EdgedError:
        """End a connection; returns what ended it, which may have been something before this."""
        error = link.error = link.error or error
        if self._link is link:
            self._link = None
        # Wakes a thread that waits in poll before the descriptor is given back.
        with contextlib.suppress(OSError):
            link.sock.shutdown(socket.SHUT_RDWR)
        link.sock.close()
        waiting, link.pending = link.pending, {}
        for pending in list(waiting.values()):
            pending.error = error
        return error


def _give_up(pending: Pending) -> None:
    pending.link.pending.pop(pending.request_id, None)
    pending.error = DeadlineExceededError("no answer came in time")


def _wait(sock: socket.socket, events: int, seconds: float | None) -> bool:
    """Whether the socket became usable in time.

    Poll, because a timeout set on the socket would be shared by the threads that send and read.
    """
    poll = select.poll()
    poll.register(sock, events)
    # Never longer than poll can count; who waits for longer asks again.
    return bool(poll.poll(None if seconds is None else min(seconds, 3600.0) * 1000))


def _disconnected(path: str, cause: BaseException) -> DisconnectedError:
    text = getattr(cause, "strerror", None) or str(cause)
    return DisconnectedError(f"the connection to {path} broke: {text}")
