"""The Open Inference Protocol over HTTP, on a Unix socket of its own or on loopback TCP.

Decides where to listen and which limits hold; what one client may do is ``http_peer``'s.
"""

from __future__ import annotations

import asyncio
import logging
import time

from edged.access.gate import Gate
from edged.config.schema import Config
from edged.patience import Patience
from edged.transports.http.gathering import Gatherings
from edged.transports.http.peer import Connection
from edged.transports.named_memory import NamedMemory
from edged.transports.oip_door import Admin, Door, Pages
from edged.transports.tls_listener import TlsListener
from edged.transports.web_listener import Place, Staged

log = logging.getLogger("edged.http")

FIELD = "listen.http"
_READ_BYTES = 64 << 10
"""A small request is in one read; more of a large one is the loop's to read."""


class HttpServer:
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
        self.door = door
        self.admin = admin
        self.gate = gate or Gate()
        self.pages = pages
        self.memory = memory or NamedMemory()
        self.max_request_bytes = 64 << 20
        self.max_connections = 256
        self.frame_timeout_s = 10.0
        self.unread_wait_s = 60.0
        self.patience = Patience(0)
        self.gatherings = Gatherings()
        self.buffer = memoryview(bytearray(_READ_BYTES))
        """Of whoever is read awake: one at a time, for what is read is taken at once."""
        self.connections: set[Connection] = set()
        self.accepted = self.refused = self.requests = 0
        self.received_bytes = self.sent_bytes = 0
        self.compresses = False
        self.is_loopback = False
        """Whether it listens on a port that any process of this machine reaches, nobody else."""
        self._listener = TlsListener(FIELD, "HTTP", lambda: Connection(self), log, ("http/1.1",))
        self.tls = self._listener.tls

    @property
    def entry(self) -> str:
        """Whose socket it is, for the rules."""
        return "http" if self.admin is None else "admin"

    @property
    def place(self) -> Place | None:
        """Where it listens; None while it does not."""
        return self._listener.place

    def prepare(self, config: Config) -> Staged:
        """Bind what the configuration asks for; what listens now is left as it is.

        Raises:
            ApplyError: it cannot be bound, or its certificates cannot be used.
        """
        return self._listener.prepare(config.listen.http)

    def refresh(self, config: Config) -> None:
        """Read the certificates again; connections that are open keep what they began with.

        Raises:
            ApplyError: they cannot be used; those from before are.
        """
        self._listener.refresh(config.listen.http)

    def abandon(self, staged: Staged) -> None:
        """Undo ``prepare``."""
        self._listener.abandon(staged)

    async def commit(self, staged: Staged, config: Config) -> None:
        """Answer where ``prepare`` bound, and there alone; limits hold for new connections."""
        self.configure(config)
        http = config.listen.http
        self.compresses = http is not None and http.compress
        is_port = http is not None and http.port is not None and http.tls is None
        self.is_loopback = is_port and http is not None and not http.trusted_network
        if self._listener.follow(staged, self.frame_timeout_s):
            self._end_all()
        self.memory.allow(config.listen.shared_memory)
        await self._listener.commit(staged)

    def configure(self, config: Config) -> None:
        """Take over limits; they hold for connections made from now on."""
        self.max_request_bytes = int(config.limits.max_request)
        self.frame_timeout_s = int(config.limits.frame_timeout) / 1e9
        self.unread_wait_s = int(config.limits.stream_wait) / 1e9
        self.patience = Patience(int(config.limits.busy_wait))
        self.max_connections = config.listen.max_connections

    def close_listener(self) -> None:
        """Take no new connections; those that are open stay."""
        self._listener.close()

    def close(self) -> None:
        """End every connection once it has been answered."""
        self.close_listener()
        self._end_all()

    def _end_all(self) -> None:
        self.tls.close()
        for connection in list(self.connections):
            connection.end()

    def hear(self) -> asyncio.Protocol:
        """A connection that another listener has accepted."""
        return Connection(self)

    async def closed(self, timeout_s: float) -> None:
        """After ``close``: wait until what was written has left, but no longer than this."""
        until = time.monotonic() + timeout_s
        # Looked at, not signalled: this happens once, when the process stops.
        while self.connections and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
