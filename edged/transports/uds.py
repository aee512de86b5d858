"""The Unix socket: bytes of local applications to requests and back, over the native protocol.

Decides who may stay connected and how much may be in flight; never what a request means to a
model. The kernel says who the peer is (SO_PEERCRED).
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, cast

from edged.config.schema import Config, SocketConfig
from edged.errors import (
    EdgedError,
    InvalidRequestError,
    NotFoundError,
    QueueFullError,
    RemoteProtocolError,
    RuntimeFailureError,
)
from edged.messages import InferRequest, InferResponse, OnResponse
from edged.protocol import native
from edged.protocol.frames import Buffer, Frame, FrameReader, Kind, Limits
from edged.transports.socket_file import BACKLOG, bind_socket, remove_socket, set_access
from edged.version import __version__

log = logging.getLogger("edged.uds")

_OUTPUT_CAP_BYTES = 256 << 20
"""A client that sends and never reads is closed before its answers fill the memory."""

Call = Callable[[dict[str, Any]], Awaitable[Any]]


class Door(Protocol):
    """The dataplane as this transport sees it."""

    def submit(self, request: InferRequest, on_response: OnResponse) -> None:
        """Answer a request, now or later."""
        ...


class UnixServer:
    """Listens on one Unix socket.

    Args:
        door: the dataplane.
        calls: what CALL frames may ask for, by verb; each returns a plain document.
    """

    def __init__(self, door: Door, calls: dict[str, Call]) -> None:
        self.door = door
        self.calls = calls
        self.limits = Limits()
        self.max_in_flight = 1024
        self.max_connections = 256
        self.connections: set[Connection] = set()
        self.accepted = 0
        self.refused = 0
        self.requests = 0
        self._server: asyncio.AbstractServer | None = None
        self._socket: SocketConfig | None = None
        self._is_passed = False

    @property
    def path(self) -> str:
        """Where it listens; empty before ``start``."""
        return self._socket.path if self._socket else ""

    async def start(self, config: Config, passed: socket.socket | None = None) -> None:
        """Begin to listen, on a socket the service manager passed or on one of our own."""
        self.configure(config)
        self._is_passed = passed is not None
        sock = passed if passed is not None else bind_socket(config.listen.socket)
        await self._listen(sock, config.listen.socket)

    def configure(self, config: Config) -> None:
        """Take over limits; they hold for connections made from now on."""
        self.limits = Limits(body_bytes=int(config.limits.max_request))
        self.max_in_flight = config.limits.max_in_flight
        self.max_connections = config.listen.max_connections

    async def apply(self, config: Config) -> None:
        """Follow a changed configuration: the new socket is there before the old one goes.

        Raises:
            ApplyError: the new socket cannot be made; the old one still listens.
        """
        wanted = config.listen.socket
        if wanted != self._socket and not self._is_passed:
            old_path, old_server = self.path, self._server
            if wanted.path == old_path:
                set_access(wanted)
                self._socket = wanted
            else:
                await self._listen(bind_socket(wanted), wanted)
                if old_server is not None:
                    old_server.close()
                remove_socket(old_path)
        self.configure(config)

    def close_listener(self) -> None:
        """Take no new connections; those that are open stay."""
        if self._server is not None:
            self._server.close()
            self._server = None
            if not self._is_passed:
                remove_socket(self.path)

    def close(self) -> None:
        """End every connection; what was written is still sent."""
        self.close_listener()
        for connection in list(self.connections):
            connection.close()

    async def closed(self, timeout_s: float) -> None:
        """After ``close``: wait until what was written has left, but no longer than this."""
        until = time.monotonic() + timeout_s
        # Looked at, not signalled: this happens once, when the process stops.
        while self.connections and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.005)

    async def _listen(self, sock: socket.socket, config: SocketConfig) -> None:
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        # Since Python 3.13 a loop removes the file of any socket it listened on, also of one that
        # the service manager passed and needs for the next start; we remove our own ourselves.
        options: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
        self._server = await loop.create_unix_server(
            lambda: Connection(self), sock=sock, backlog=BACKLOG, **options
        )
        self._socket = config
        log.info("listening on %s", config.path)


class Connection(asyncio.BufferedProtocol):
    """One client."""

    def __init__(self, server: UnixServer) -> None:
        self._server = server
        self._limits = server.limits
        self._reader = FrameReader(self._limits)
        self._transport: asyncio.Transport | None = None
        self._in_flight: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_ending = False
        self.origin = "uds"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note who it is; refuse when there are too many."""
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = transport = cast(asyncio.Transport, transport)
        server = self._server
        if len(server.connections) >= server.max_connections:
            server.refused += 1
            error = QueueFullError(
                f"{server.max_connections} connections are open, the most allowed "
                "(listen.max_connections)"
            )
            self._write(native.encode_error(0, error))
            transport.close()
            return
        server.accepted += 1
        server.connections.add(self)
        sock = transport.get_extra_info("socket")
        pid, uid, gid = peer_credentials(sock)
        self.origin = f"uds:{uid}"
        log.info(
            "connected: pid %d uid %d gid %d (%d open)", pid, uid, gid, len(server.connections)
        )

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it; answers still on their way have nowhere to go."""
        self._transport = None
        self._server.connections.discard(self)
        for task in self._tasks:
            task.cancel()
        if exc is not None:
            log.info("a connection of %s broke: %s", self.origin, exc)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """Where the next bytes go: straight into a large frame's own memory."""
        return self._reader.next_buffer()

    def buffer_updated(self, nbytes: int) -> None:
        """Handle every frame that is now complete."""
        try:
            for frame in self._reader.received(nbytes):
                self._handle(frame)
            self._reader.check()
        except RemoteProtocolError as exc:
            log.warning("closing a connection of %s: %s", self.origin, exc.message)
            self._write(native.encode_error(0, exc))
            self.close()
        except Exception:
            log.exception("closing a connection of %s: its frame could not be handled", self.origin)
            error = RuntimeFailureError("the frame could not be handled; see the daemon's log")
            self._write(native.encode_error(0, error))
            self.close()

    def eof_received(self) -> bool:
        """Keep the write side open while answers are on their way."""
        self._is_ending = self._is_answering
        return self._is_ending

    @property
    def _is_answering(self) -> bool:
        return bool(self._in_flight or self._tasks)

    def _close_when_answered(self) -> None:
        if self._is_ending and not self._is_answering:
            self.close()

    def pause_writing(self) -> None:
        """The client does not read: read nothing more from it until it does."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The client reads again."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        """End the connection after what was written."""
        if self._transport is not None:
            self._transport.close()

    def _handle(self, frame: Frame) -> None:
        if frame.kind == Kind.INFER:
            self._infer(frame)
            return
        try:
            if frame.kind == Kind.HELLO:
                hello = native.decode_hello(frame)
                log.info("%s calls itself %r", self.origin, hello.client[:64])
                self._write(
                    native.encode_welcome(
                        f"edged/{__version__}", self._limits, self._server.max_in_flight
                    )
                )
            elif frame.kind == Kind.CALL:
                self._call(frame)
            else:
                raise InvalidRequestError(f"unknown kind of frame: {frame.kind}")
        except EdgedError as exc:
            self._write(native.encode_error(frame.request_id, exc))

    def _infer(self, frame: Frame) -> None:
        request_id = frame.request_id
        if request_id in self._in_flight:
            # Not answered under that id: the first request's answer must stay the only one.
            raise RemoteProtocolError(f"request id {request_id} is already in flight")
        try:
            request, timeout_us = native.decode_infer(frame, self._limits)
            if len(self._in_flight) >= self._server.max_in_flight:
                raise QueueFullError(
                    f"{len(self._in_flight)} requests of this connection are unanswered, the most "
                    "allowed (limits.max_in_flight)"
                )
        except EdgedError as exc:
            self._write(native.encode_error(request_id, exc))
            return
        if timeout_us:
            request.deadline_ns = time.monotonic_ns() + timeout_us * 1000
        request.origin = self.origin
        self._in_flight.add(request_id)
        self._server.requests += 1

        def on_response(response: InferResponse, final: bool) -> None:
            if final:
                self._in_flight.discard(request_id)
            self._write(_encode(request_id, response))
            self._close_when_answered()

        self._server.door.submit(request, on_response)

    def _call(self, frame: Frame) -> None:
        head = native.decode_call(frame)
        call = self._server.calls.get(head.verb)
        if call is None:
            known = ", ".join(sorted(self._server.calls))
            raise NotFoundError(f'no call "{head.verb[:64]}"; there are: {known}')
        task = asyncio.get_running_loop().create_task(
            self._reply(frame.request_id, call, head.arguments)
        )
        self._tasks.add(task)
        task.add_done_callback(self._replied)

    def _replied(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._close_when_answered()

    async def _reply(self, request_id: int, call: Call, arguments: dict[str, Any]) -> None:
        try:
            self._write(native.encode_reply(request_id, await call(arguments)))
        except EdgedError as exc:
            self._write(native.encode_error(request_id, exc))
        except Exception:
            log.exception("a call from %s failed", self.origin)
            error = RuntimeFailureError("the call failed; see the daemon's log")
            self._write(native.encode_error(request_id, error))

    def _write(self, buffers: list[Buffer]) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if len(buffers) == 1:
            transport.write(buffers[0])
        elif sum(map(len, buffers)) <= 64 << 10:
            transport.write(b"".join(buffers))
        else:
            # Not writelines: asyncio's does not call pause_writing on Python 3.12 and 3.13.
            for buffer in buffers:
                transport.write(buffer)
        if transport.get_write_buffer_size() > _OUTPUT_CAP_BYTES:
            log.warning("closing a connection of %s: it does not read its answers", self.origin)
            transport.abort()


def _encode(request_id: int, response: InferResponse) -> list[Buffer]:
    try:
        return native.encode_response(request_id, response)
    except EdgedError as exc:
        return native.encode_error(request_id, exc, response.release, response.generation)


def peer_credentials(sock: socket.socket) -> tuple[int, int, int]:
    """Process, user and group of the other end, as the kernel knows them."""
    data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, gid = struct.unpack("3i", data)
    return pid, uid, gid
