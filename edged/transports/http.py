"""The Open Inference Protocol over HTTP, on a Unix socket of its own or on loopback TCP.

Decides where to listen and which limits hold; what one client may do is ``http_peer``'s.
"""

from __future__ import annotations

import asyncio
import logging
import time

from edged.config.schema import Config
from edged.patience import Patience
from edged.transports.http_door import Door, Pages
from edged.transports.http_peer import Connection
from edged.transports.web_listener import Place, Staged, WebListener

log = logging.getLogger("edged.http")

FIELD = "listen.http"
_READ_BYTES = 64 << 10
"""A small request is in one read; more of a large one is the loop's to read."""


class HttpServer:
    """Answers on one TCP port or Unix socket.

    Args:
        door: the dataplane.
        pages: what else can be asked for.
    """

    def __init__(self, door: Door, pages: Pages) -> None:
        self.door = door
        self.pages = pages
        self.max_request_bytes = 64 << 20
        self.max_connections = 256
        self.frame_timeout_s = 10.0
        self.unread_wait_s = 60.0
        self.patience = Patience(0)
        self.buffer = memoryview(bytearray(_READ_BYTES))
        """Of whoever is read awake: one at a time, for what is read is taken at once."""
        self.connections: set[Connection] = set()
        self.accepted = self.refused = self.requests = 0
        self.received_bytes = self.sent_bytes = 0
        self._listener = WebListener(FIELD, "HTTP", lambda: Connection(self), log)

    @property
    def place(self) -> Place | None:
        """Where it listens; None while it does not."""
        return self._listener.place

    def prepare(self, config: Config) -> Staged:
        """Bind what the configuration asks for; what listens now is left as it is.

        Raises:
            ApplyError: it cannot be bound.
        """
        return self._listener.prepare(config.listen.http)

    def abandon(self, staged: Staged) -> None:
        """Undo ``prepare``."""
        self._listener.abandon(staged)

    async def commit(self, staged: Staged, config: Config) -> None:
        """Answer where ``prepare`` bound, and there alone; limits hold for new connections."""
        self.max_request_bytes = int(config.limits.max_request)
        self.frame_timeout_s = int(config.limits.frame_timeout) / 1e9
        self.unread_wait_s = int(config.limits.stream_wait) / 1e9
        self.patience = Patience(int(config.limits.busy_wait))
        self.max_connections = config.listen.max_connections
        await self._listener.commit(staged)

    def close_listener(self) -> None:
        """Take no new connections; those that are open stay."""
        self._listener.close()

    def close(self) -> None:
        """End every connection once it has been answered."""
        self.close_listener()
        for connection in list(self.connections):
            connection.end()

    async def closed(self, timeout_s: float) -> None:
        """After ``close``: wait until what was written has left, but no longer than this."""
        until = time.monotonic() + timeout_s
        # Looked at, not signalled: this happens once, when the process stops.
        while self.connections and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
