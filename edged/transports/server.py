"""What every server of clients has: its connections, their bounds, and who is let in.

The same for the native protocol, HTTP and gRPC. Where it listens is not seen here, nor what is
asked; how a client is told that it is not let in is its protocol's.
"""

from __future__ import annotations

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from edged.access.gate import Gate
from edged.access.visit import Visit
from edged.config.schema import Config
from edged.errors import QueueFullError, QuotaError
from edged.system.patience import Patience
from edged.transports.credentials import peer_credentials, peer_of
from edged.transports.tls import certificate_name, certificate_origin


class Ends(Protocol):
    """A connection, as its server ends it."""

    def end(self) -> None:
        """The daemon stops: close once what is under way has been answered."""
        ...


C = TypeVar("C", bound=Ends)


class Guest(NamedTuple):
    """Whose connection it is, once it is let in."""

    visit: Visit
    """What it may ask."""
    origin: str
    """Who asks, for logs and sequences: the carrier, and the user or the certificate's name."""
    uid: int | None
    """Of a Unix socket; None over TCP."""
    descriptor: int
    """What is read while awake; -1 where what is read has yet to be decrypted."""


class Server(ABC, Generic[C]):
    """Knows its connections and what holds for new ones.

    Args:
        carrier: what is spoken there, for logs and sequences: ``uds``, ``http`` or ``grpc``.
        entry: whose socket it is, for the rules: that of all its clients, or ``admin``.
        gate: who may ask for what; one for all listeners.
        log: whose server it is.
    """

    def __init__(self, carrier: str, entry: str, gate: Gate | None, log: logging.Logger) -> None:
        self.entry = entry
        self.gate = gate or Gate()
        self.max_connections = 256
        self.frame_timeout_s = 10.0
        self.patience = Patience(0)
        self.connections: set[C] = set()
        self.accepted = self.refused = 0
        self.received_bytes = self.sent_bytes = 0
        self._carrier = carrier
        self._log = log

    def configure(self, config: Config) -> None:
        """Take over limits; they hold for connections made from now on."""
        self.max_connections = config.listen.max_connections
        self.frame_timeout_s = int(config.limits.frame_timeout) / 1e9
        self.patience = Patience(int(config.limits.busy_wait))

    def admit(
        self, connection: C, transport: asyncio.Transport, on_change: Callable[[], None]
    ) -> Guest:
        """Let a new connection in, and note who it is.

        Args:
            connection: the new one.
            transport: its.
            on_change: called when its rights may have changed.

        Raises:
            QueueFullError: there are too many connections; it was counted.
            QuotaError: the client has as many as it may; likewise.
        """
        if len(self.connections) >= self.max_connections:
            self.refused += 1
            raise QueueFullError(
                f"{self.max_connections} connections are open, the most allowed "
                "(listen.max_connections)"
            )
        sock: Any = transport.get_extra_info("socket")
        certificate = certificate_name(transport.get_extra_info("peercert"))
        peer = peer_of(sock, self.entry)._replace(certificate=certificate)
        try:
            visit = self.gate.enter(peer, on_change)
        except QuotaError:
            self.refused += 1
            raise
        self.accepted += 1
        self.connections.add(connection)
        # An answer leaves at once: uvloop otherwise keeps it until the loop's turn is over, and the
        # client could already be at work on its next request.
        transport.set_write_buffer_limits(high=0)
        if certificate:
            return Guest(visit, certificate_origin(self._carrier, certificate), None, -1)
        if peer.uid is None:
            return Guest(visit, self._carrier, None, sock.fileno())
        if self._log.isEnabledFor(logging.DEBUG):
            who = (*peer_credentials(sock), len(self.connections))
            self._log.debug("connected: pid %d uid %d gid %d (%d open)", *who)
        return Guest(visit, f"{self._carrier}:{peer.uid}", peer.uid, sock.fileno())

    @abstractmethod
    def close_listener(self) -> None:
        """Take no new connections; those that are open stay."""

    def close(self) -> None:
        """End every connection once it has been answered."""
        self.close_listener()
        self._end_all()

    def _end_all(self) -> None:
        for connection in list(self.connections):
            connection.end()

    async def closed(self, timeout_s: float) -> None:
        """After ``close``: wait until what was written has left, but no longer than this."""
        until = time.monotonic() + timeout_s
        # Looked at, not signalled: this happens once, when the process stops.
        while self.connections and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
