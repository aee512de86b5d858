"""gRPC on our own HTTP/2, on a Unix socket or on TCP, with or without TLS.

Decides where to listen and which limits hold; what one client may do is ``http2_peer``'s.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Literal, Protocol

from edged.access.gate import Gate
from edged.access.visit import Visit
from edged.config.listen import WebConfig
from edged.config.schema import Config
from edged.protocol.grpc_call import Service
from edged.transports.awake import Vigil
from edged.transports.grpc.http2_peer import Peer
from edged.transports.web_server import WebServer

log = logging.getLogger("edged.grpc")

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


class GrpcServer(WebServer[Peer]):
    """Answers on one TCP port or Unix socket.

    Args:
        service: what is served.
        gate: who may ask for what; one for all listeners.
        entry: whose socket it is, for the rules.
    """

    def __init__(
        self, service: Served, gate: Gate | None = None, entry: Literal["grpc", "admin"] = "grpc"
    ) -> None:
        super().__init__("grpc", entry, gate, log, what="gRPC", protocols=("h2",))
        self.service = service
        self.max_message_bytes = (64 << 20) + _HEAD_BYTES
        self.max_unread_bytes = 64 << 20
        self.latest: Peer | None = None
        """The connection that sent something last."""
        self.vigil = Vigil()
        """For that one."""
        self.turned_away: set[Peer] = set()
        """Those of clients that have as many as they may, for as long as they are told so."""

    def hear(self) -> asyncio.Protocol:
        """A new connection, accepted by this listener or by another."""
        return Peer(self)

    def configure(self, config: Config) -> None:
        """Take over limits; they hold for connections made from now on."""
        super().configure(config)
        cap = int(config.limits.max_request)
        self.max_message_bytes = cap + _HEAD_BYTES
        self.max_unread_bytes = int(config.limits.max_unread)
        name = "edged" if config.listen.grpc is None else config.listen.grpc.server_name
        self.service.configure(name, cap, self.unread_wait_s)

    @property
    def calls(self) -> int:
        """Calls that are under way."""
        return sum(len(connection.calls.live) for connection in self.connections)

    def _wanted(self, config: Config) -> WebConfig | None:
        return config.listen.grpc

    def _end_all(self) -> None:
        super()._end_all()
        for connection in list(self.turned_away):
            connection.end()
