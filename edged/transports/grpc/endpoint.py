"""gRPC on our own HTTP/2, on a Unix socket or on TCP, with or without TLS.

Decides where to listen and which limits hold; what one client may do is ``http2_peer``'s.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Literal, Protocol

from edged.access.gate import Gate
from edged.access.visit import Visit
from edged.config.schema import Config
from edged.patience import Patience
from edged.protocol.grpc_call import Service
from edged.transports.grpc.http2_peer import Peer
from edged.transports.tls_listener import TlsListener
from edged.transports.web_listener import Place, Staged

log = logging.getLogger("edged.grpc")

FIELD = "listen.grpc"


_READ_BYTES = 64 << 10
_HEAD_BYTES = 1 << 20
"""Of a message beside its tensors: names, shapes, parameters."""


class Asker(Service, Protocol):
    """What one connection asks."""

    def enter(self, visit: Visit) -> None:
        """Ask with the rights of this client from now on; before its first call."""
        ...

    def review(self) -> None:
        """What the client may do has changed, or may have."""
        ...

    def leave(self) -> None:
        """The client is gone, and all of its calls with it."""
        ...


class Served(Protocol):
    """What is served; it follows the configuration."""

    def asker(self) -> Asker:
        """What a new connection asks through."""
        ...

    def configure(self, server_name: str, max_request_bytes: int, unread_wait_s: float) -> None:
        """Set what holds for new calls."""
        ...


class GrpcServer:
    """Answers on one TCP port or Unix socket.

    Args:
        service: what is served.
        gate: who may ask for what; one for all listeners.
        entry: whose socket it is, for the rules.
    """

    def __init__(
        self, service: Served, gate: Gate | None = None, entry: Literal["grpc", "admin"] = "grpc"
    ) -> None:
        self.entry = entry
        self.service = service
        self.gate = gate or Gate()
        self.max_message_bytes = (64 << 20) + _HEAD_BYTES
        self.max_unread_bytes = 64 << 20
        self.max_connections = 256
        self.frame_timeout_s = 10.0
        self.unread_wait_s = 60.0
        self.patience = Patience(0)
        self.buffer = memoryview(bytearray(_READ_BYTES))
        """For what is read while awake; taken out of it at once."""
        self.latest: Peer | None = None
        """The connection that sent something last."""
        self.connections: set[Peer] = set()
        self.turned_away: set[Peer] = set()
        """Those of clients that have as many as they may, for as long as they are told so."""
        self.accepted = self.refused = 0
        self.received_bytes = self.sent_bytes = 0
        self._listener = TlsListener(FIELD, "gRPC", lambda: Peer(self), log, ("h2",))
        self.tls = self._listener.tls

    @property
    def place(self) -> Place | None:
        """Where it listens; None while it does not."""
        return self._listener.place

    def prepare(self, config: Config) -> Staged:
        """Bind what the configuration asks for; what listens now is left as it is.

        Raises:
            ApplyError: it cannot be bound, or its certificates cannot be used.
        """
        return self._listener.prepare(config.listen.grpc)

    def refresh(self, config: Config) -> None:
        """Read the certificates again; connections that are open keep what they began with.

        Raises:
            ApplyError: they cannot be used; those from before are.
        """
        self._listener.refresh(config.listen.grpc)

    def abandon(self, staged: Staged) -> None:
        """Undo ``prepare``."""
        self._listener.abandon(staged)

    async def commit(self, staged: Staged, config: Config) -> None:
        """Answer where ``prepare`` bound, and there alone; limits hold for new connections."""
        self.configure(config)
        if self._listener.follow(staged, self.frame_timeout_s):
            self._end_all()
        await self._listener.commit(staged)

    def hear(self) -> asyncio.Protocol:
        """A connection that another listener has accepted."""
        return Peer(self)

    def configure(self, config: Config) -> None:
        """Set the limits of new connections."""
        cap = int(config.limits.max_request)
        self.max_message_bytes = cap + _HEAD_BYTES
        self.frame_timeout_s = int(config.limits.frame_timeout) / 1e9
        self.unread_wait_s = int(config.limits.stream_wait) / 1e9
        self.max_unread_bytes = int(config.limits.max_unread)
        self.max_connections = config.listen.max_connections
        name = "edged" if config.listen.grpc is None else config.listen.grpc.server_name
        self.service.configure(name, cap, self.unread_wait_s)
        self.patience = Patience(int(config.limits.busy_wait))

    @property
    def calls(self) -> int:
        """Calls that are under way."""
        return sum(len(connection.calls.live) for connection in self.connections)

    def close_listener(self) -> None:
        """Take no new connections; those that are open stay."""
        self._listener.close()

    def close(self) -> None:
        """End every connection once it has been answered."""
        self.close_listener()
        self._end_all()

    def _end_all(self) -> None:
        self.tls.close()
        for connection in [*self.connections, *self.turned_away]:
            connection.end()

    async def closed(self, timeout_s: float) -> None:
        """After ``close``: wait until what was written has left, but no longer than this."""
        until = time.monotonic() + timeout_s
        # Looked at, not signalled: this happens once, when the process stops.
        while self.connections and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
