"""What HTTP and gRPC have in common: one place to listen at that can be moved, with or without TLS.

Decides when open connections have to end because their place speaks otherwise now; what is said on
them is the endpoints'.
"""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from collections.abc import Sequence
from typing import Final

from edged.access.gate import Gate
from edged.config.listen import WebConfig
from edged.config.schema import Config
from edged.transports.server import C, Server
from edged.transports.tls_listener import TlsListener
from edged.transports.web_listener import Place, Staged

_READ_BYTES: Final = 64 << 10
"""A small request is in one read; more of a large one is the loop's to read."""


class WebServer(Server[C]):
    """Answers on one TCP port or Unix socket.

    Args:
        carrier: as for ``Server``.
        entry: likewise.
        gate: likewise.
        log: likewise.
        what: what is said there, for the log.
        protocols: for ALPN, the preferred first.
    """

    def __init__(
        self,
        carrier: str,
        entry: str,
        gate: Gate | None,
        log: logging.Logger,
        *,
        what: str,
        protocols: Sequence[str],
    ) -> None:
        super().__init__(carrier, entry, gate, log)
        self.unread_wait_s = 60.0
        self.buffer = memoryview(bytearray(_READ_BYTES))
        """Of whoever is read awake: one at a time, for what is read is taken out of it at once."""
        self._listener = TlsListener(f"listen.{carrier}", what, self.hear, log, protocols)
        self.tls = self._listener.tls

    @abstractmethod
    def hear(self) -> asyncio.Protocol:
        """A new connection, accepted by this listener or by another."""

    @abstractmethod
    def _wanted(self, config: Config) -> WebConfig | None:
        """Where a configuration has it listen."""

    @property
    def place(self) -> Place | None:
        """Where it listens; None while it does not."""
        return self._listener.place

    def configure(self, config: Config) -> None:
        """Take over limits; they hold for connections made from now on."""
        super().configure(config)
        self.unread_wait_s = int(config.limits.stream_wait) / 1e9

    def prepare(self, config: Config) -> Staged:
        """Bind what the configuration asks for; what listens now is left as it is.

        Raises:
            ApplyError: it cannot be bound, or its certificates cannot be used.
        """
        return self._listener.prepare(self._wanted(config))

    def refresh(self, config: Config) -> None:
        """Read the certificates again; connections that are open keep what they began with.

        Raises:
            ApplyError: they cannot be used; those from before are.
        """
        self._listener.refresh(self._wanted(config))

    def abandon(self, staged: Staged) -> None:
        """Undo ``prepare``."""
        self._listener.abandon(staged)

    async def commit(self, staged: Staged, config: Config) -> None:
        """Answer where ``prepare`` bound, and there alone; limits hold for new connections."""
        self.configure(config)
        if self._listener.follow(staged, self.frame_timeout_s):
            self._end_all()
        await self._listener.commit(staged)

    def close_listener(self) -> None:
        """Take no new connections; those that are open stay."""
        self._listener.close()

    def _end_all(self) -> None:
        self.tls.close()
        super()._end_all()
