"""The Open Inference Protocol over HTTP, on a Unix socket or on TCP, with or without TLS.

Decides where to listen and which limits hold; what one client may do is ``peer``'s.
"""

from __future__ import annotations

import asyncio
import logging

from edged.access.gate import Gate
from edged.config.listen import WebConfig
from edged.config.schema import Config
from edged.transports.http.gathering import Gatherings
from edged.transports.http.peer import Connection
from edged.transports.named_memory import NamedMemory
from edged.transports.oip_door import Admin, Door, Pages
from edged.transports.web_listener import Staged
from edged.transports.web_server import WebServer

log = logging.getLogger("edged.http")


class HttpServer(WebServer[Connection]):
    """Answers on one TCP port or Unix socket.

    Args:
        door: the dataplane.
        pages: what else can be asked for.
        gate: who may ask for what; one for all listeners.
        admin: what administrators ask; only where this is their socket.
        memory: what clients have registered of memory by name, over gRPC too.
    """

    def __init__(
        self,
        door: Door,
        pages: Pages,
        gate: Gate | None = None,
        admin: Admin | None = None,
        memory: NamedMemory | None = None,
    ) -> None:
        entry = "http" if admin is None else "admin"
        super().__init__("http", entry, gate, log, what="HTTP", protocols=("http/1.1",))
        self.door = door
        self.admin = admin
        self.pages = pages
        self.memory = memory or NamedMemory()
        self.max_request_bytes = 64 << 20
        self.gatherings = Gatherings()
        self.requests = 0
        self.compresses = False
        self.is_loopback = False
        """Whether it listens on a port that any process of this machine reaches, nobody else."""

    def hear(self) -> asyncio.Protocol:
        """A new connection, accepted by this listener or by another."""
        return Connection(self)

    async def commit(self, staged: Staged, config: Config) -> None:
        """Answer where ``prepare`` bound, and there alone; limits hold for new connections."""
        http = config.listen.http
        self.compresses = http is not None and http.compress
        is_port = http is not None and http.port is not None and http.tls is None
        self.is_loopback = is_port and http is not None and not http.trusted_network
        self.memory.allow(config.listen.shared_memory)
        await super().commit(staged, config)

    def configure(self, config: Config) -> None:
        """Take over limits; they hold for connections made from now on."""
        super().configure(config)
        self.max_request_bytes = int(config.limits.max_request)

    def _wanted(self, config: Config) -> WebConfig | None:
        return config.listen.http
