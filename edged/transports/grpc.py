"""The Open Inference Protocol over gRPC, carried by grpcio on the daemon's own loop.

Decides how calls of grpcio become those of ``grpc_call``; what is answered is ``grpc_service``'s.
grpcio makes its socket itself, from a path or an address, and knows no more of a client than that
it could connect. This module is only imported where gRPC is configured.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import string
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc

from edged.config.listen import GrpcConfig, SocketConfig
from edged.config.schema import Config
from edged.errors import ApplyError
from edged.protocol.frames import Buffer
from edged.protocol.grpc_call import Head, Incoming, Reply, Shape, Status
from edged.transports.grpc_service import GrpcService
from edged.transports.http_door import Door, Pages
from edged.transports.socket_file import clear_stale, remove_socket, set_access
from edged.transports.web_listener import shown

log = logging.getLogger("edged.grpc")

FIELD = "listen.grpc"

_HEAD_BYTES = 1 << 20
"""Of a message beside its tensors: names, shapes, parameters."""
_MOST_CALLS = 1024
"""At once, of all clients; as many as one connection of the native protocol may have."""
_HIGH, _LOW = 8, 2
"""Messages of a stream that wait for the client: no more are made above, and again below."""
_PLAIN = (string.ascii_letters + string.digits + "/-._~").encode()
_CODES = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(slots=True)
class StagedGrpc:
    """A server that is bound but does not answer yet, in place of the one that does."""

    place: GrpcConfig | None
    server: Any = None


class GrpcServer:
    """Listens where it is told to.

    Args:
        door: answers inference requests.
        pages: what else can be asked for.
    """

    def __init__(self, door: Door, pages: Pages) -> None:
        self.service = GrpcService(door, pages)
        self.streams: set[_Stream] = set()
        self.place: GrpcConfig | None = None
        """Where it listens; None while it does not."""
        self._server: Any = None
        self._stopping: set[asyncio.Task[None]] = set()
        self._wire_bytes = 0

    def prepare(self, config: Config) -> StagedGrpc:
        """Bind what the configuration asks for; what listens now is left as it is.

        Raises:
            ApplyError: it cannot be bound.
        """
        wanted, place = config.listen.grpc, self.place
        if wanted is None or wanted == place:
            return StagedGrpc(wanted)
        if place is not None and (wanted.path, wanted.host, wanted.port) == (
            place.path,
            place.host,
            place.port,
        ):
            if wanted.path is not None:
                set_access(_as_socket(wanted), FIELD)
            return StagedGrpc(wanted)
        return StagedGrpc(wanted, self._bind(wanted, int(config.limits.max_request)))

    def abandon(self, staged: StagedGrpc) -> None:
        """Undo ``prepare``."""
        place = self.place
        if staged.server is not None:
            self._stop(staged.server, 0)
            if staged.place is not None and staged.place.path is not None:
                remove_socket(staged.place.path)
        elif staged.place != place and place is not None and place.path is not None:
            with contextlib.suppress(ApplyError):
                set_access(_as_socket(place), FIELD)

    async def commit(self, staged: StagedGrpc, config: Config) -> None:
        """Answer where ``prepare`` bound, and there alone."""
        if staged.server is not None or staged.place is None:
            self.close_listener()
        if staged.server is not None:
            self._server = staged.server
            self._wire_bytes = int(config.limits.max_request)
            await staged.server.start()
            log.info("gRPC on %s", shown(staged.place))
        self.place = staged.place
        if staged.place is not None:
            cap, name = int(config.limits.max_request), staged.place.server_name
            self.service.configure(name, cap, int(config.limits.stream_wait) / 1e9)
            if cap > self._wire_bytes:
                log.warning("limits.max_request is larger for gRPC after a restart only")

    def close_listener(self) -> None:
        """Take no new calls; what was asked is answered."""
        if self._server is not None:
            self._stop(self._server, _GRACE_S)
            self._server = None
            if self.place is not None and self.place.path is not None:
                remove_socket(self.place.path)
        self.place = None

    def close(self) -> None:
        """Take no new calls, and end the streams."""
        self.close_listener()
        for stream in list(self.streams):
            stream.stop()

    async def closed(self, timeout_s: float) -> None:
        """After ``close``: wait until what was asked is answered, but no longer than this."""
        if self._stopping:
            await asyncio.wait(self._stopping, timeout=timeout_s)

    def _stop(self, server: Any, grace_s: float) -> None:
        task = asyncio.get_running_loop().create_task(server.stop(grace_s))
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)

    def _bind(self, place: GrpcConfig, cap: int) -> Any:
        options = [
            ("grpc.max_receive_message_length", cap + _HEAD_BYTES),
            ("grpc.max_send_message_length", -1),
            # Else a second daemon could listen on the same port, and get half of the clients.
            ("grpc.so_reuseport", 0),
        ]
        server = grpc.aio.server(options=options, maximum_concurrent_rpcs=_MOST_CALLS)
        server.add_generic_rpc_handlers((_Handlers(self),))
        if place.path is None:
            host = f"[{place.host}]" if ":" in place.host else place.host
            address = f"{host}:{place.port}"
        else:
            clear_stale(place.path, FIELD)
            address = f"unix:{_quoted(place.path)}"
        previous = os.umask(0o177)
        try:
            server.add_insecure_port(address)
        except RuntimeError:
            self._stop(server, 0)
            where = "the folder must exist and be writable, and the path shorter than 108 bytes"
            if place.path is None:
                where = "choose another port or end what uses it"
            raise ApplyError(f"{FIELD}: cannot listen on {shown(place)}; {where}") from None
        finally:
            os.umask(previous)
        if place.path is not None:
            try:
                set_access(_as_socket(place), FIELD)
            except ApplyError:
                self.abandon(StagedGrpc(place, server))
                raise
        return server


_GRACE_S = 10.0
"""For what was asked before a server moves; longer than most requests take."""


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[misc] # grpcio has no types
    """Finds the handler of a call: grpcio's side of ``Service.shape``."""

    def __init__(self, server: GrpcServer) -> None:
        self._server = server
        self._known: dict[str, Any] = {}

    def service(self, details: Any) -> Any:
        """The handler, from bytes to bytes; None for a method that there is not."""
        path = details.method
        found = self._known.get(path)
        if found is None:
            shape = self._server.service.shape(path)
            if shape is None:
                return None
            found = self._known[path] = self._handler(path, shape)
        return found

    def _handler(self, path: str, shape: Shape) -> Any:
        if shape is Shape.UNARY:
            return grpc.unary_unary_rpc_method_handler(_unary(self._server.service, path))

        async def stream(_: Any, context: Any) -> None:
            await _Stream(self._server.streams).run(self._server.service, path, context)

        return grpc.stream_stream_rpc_method_handler(stream)


def _unary(service: GrpcService, path: str) -> Callable[[bytes, Any], Awaitable[bytes]]:
    async def answer(message: bytes, context: Any) -> bytes:
        replies: list[Reply] = []
        waiter: asyncio.Future[None] | None = None

        def on_reply(reply: Reply) -> None:
            replies.append(reply)
            if waiter is not None and not waiter.done():
                waiter.set_result(None)

        withdrawal = service.ask(Head(path, _deadline_ns(context)), message, on_reply)
        if not replies:
            waiter = asyncio.get_running_loop().create_future()
            try:
                await waiter
            except asyncio.CancelledError:
                # The client is gone, has cancelled, or its deadline has passed.
                if withdrawal is not None:
                    withdrawal.cancel()
                raise
        parts, status, text, trailers = replies[0]
        if status is not Status.OK:
            await context.abort(_CODES[status], text, trailers)
        return bytes(parts[0]) if len(parts) == 1 else b"".join(parts)

    return answer


class _Stream:
    """One call with any number of messages: ``grpc_call.Outgoing``.

    Args:
        streams: all that are open.
    """

    def __init__(self, streams: set[_Stream]) -> None:
        self._streams = streams
        self._waiting: deque[bytes] = deque()
        self._end: Reply | None = None
        self._is_held = False
        self._has_news = asyncio.Event()
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._incoming: Incoming | None = None

    def send(self, parts: list[Buffer]) -> None:
        """One message."""
        self._waiting.append(b"".join(parts))
        self._has_news.set()
        if not self._is_held and len(self._waiting) >= _HIGH and self._incoming is not None:
            self._is_held = True
            self._incoming.hold()

    def end(self, reply: Reply) -> None:
        """The last thing that a stream says."""
        if self._end is None:
            self._end = reply
            self._has_news.set()

    def pause_reading(self) -> None:
        """Take no more of the client's messages for now."""
        self._may_read.clear()

    def resume_reading(self) -> None:
        """Take them again."""
        self._may_read.set()

    def stop(self) -> None:
        """The daemon stops."""
        self.end(Reply([], Status.UNAVAILABLE, "the daemon stops (is not at ready state)"))

    async def run(self, service: GrpcService, path: str, context: Any) -> None:
        """Carry the call until it ends."""
        metadata = tuple(
            (name, value)
            for name, value in context.invocation_metadata() or ()
            if isinstance(value, str)
        )
        head = Head(path, _deadline_ns(context), metadata=metadata)
        self._incoming = incoming = service.open(head, self)
        self._streams.add(self)
        reader = asyncio.get_running_loop().create_task(self._read(incoming, context))
        try:
            await self._write(incoming, context)
        finally:
            self._streams.discard(self)
            reader.cancel()
            incoming.cancel()
        end = self._end
        if end is not None and end.status is not Status.OK:
            await context.abort(_CODES[end.status], end.text, end.trailers)

    async def _write(self, incoming: Incoming, context: Any) -> None:
        while True:
            while self._waiting:
                await context.write(self._waiting.popleft())
                if self._is_held and len(self._waiting) <= _LOW:
                    self._is_held = False
                    incoming.release()
            if self._end is not None:
                return
            self._has_news.clear()
            await self._has_news.wait()

    async def _read(self, incoming: Incoming, context: Any) -> None:
        while True:
            await self._may_read.wait()
            message = await context.read()
            if self._end is not None:
                return
            if message is grpc.aio.EOF:
                incoming.half_close()
                return
            incoming.message(message)


def _deadline_ns(context: Any) -> int | None:
    left_s = context.time_remaining()
    return None if left_s is None else time.monotonic_ns() + int(left_s * 1e9)


def _quoted(path: str) -> str:
    """A path as grpcio reads it: as a part of an address."""
    return "".join(chr(b) if b in _PLAIN else f"%{b:02X}" for b in os.fsencode(path))


def _as_socket(place: GrpcConfig) -> SocketConfig:
    return SocketConfig(path=place.path or "", mode=place.mode, group=place.group)
