"""A listener that may speak TLS: where it listens, and what clients have to prove there.

What the certificates are is read when a place is prepared, so that a change that cannot be served
is refused before anything moves.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Sequence
from datetime import datetime, timezone

from edged.config.listen import WebConfig
from edged.config.tls_files import tls_warnings
from edged.transports.tls import TlsGate, server_context
from edged.transports.tls_peer import TlsPeer
from edged.transports.web_listener import Place, Staged, WebListener


class TlsListener:
    """See above.

    Args:
        field: where in the configuration it stands.
        what: what is said there, for the log.
        make: one connection's protocol.
        log: whose listener it is.
        protocols: for ALPN, the preferred first.
    """

    def __init__(
        self,
        field: str,
        what: str,
        make: Callable[[], asyncio.Protocol],
        log: logging.Logger,
        protocols: Sequence[str],
    ) -> None:
        self._field = field
        self._make = make
        self._log = log
        self._protocols = protocols
        self.tls = TlsGate()
        self._listener = WebListener(field, what, self._connection, log)

    @property
    def place(self) -> Place | None:
        """Where it listens; None while it does not."""
        return self._listener.place

    def prepare(self, wanted: WebConfig | None) -> Staged:
        """Bind what the configuration asks for; what listens now is left as it is.

        Raises:
            ApplyError: it cannot be bound, or its certificates cannot be used.
        """
        context = self._context(wanted)
        staged = self._listener.prepare(wanted)
        staged.context = context
        return staged

    def refresh(self, wanted: WebConfig | None) -> None:
        """Read the certificates again; connections that are open keep what they began with.

        Raises:
            ApplyError: they cannot be used; those from before are.
        """
        if self.place is not None and self.place == wanted:
            self.tls.context = self._context(wanted)

    def abandon(self, staged: Staged) -> None:
        """Undo ``prepare``."""
        self._listener.abandon(staged)

    def follow(self, staged: Staged, handshake_s: float) -> bool:
        """Hold new connections to what was prepared, before ``commit``.

        Args:
            staged: what was prepared.
            handshake_s: how long a client may take to prove who it is.

        Returns:
            Whether connections that are open have to end: who was let in without a certificate is
            not let in any more, or the other way round.
        """
        self.tls.handshake_s = handshake_s
        is_other = (self.tls.context is None) != (staged.context is None)
        self.tls.context = staged.context
        return is_other and self.place is not None

    async def commit(self, staged: Staged) -> None:
        """Answer where ``prepare`` bound, and there alone."""
        await self._listener.commit(staged)

    def close(self) -> None:
        """Take no new connections; those that are open stay."""
        self._listener.close()

    def _connection(self) -> asyncio.Protocol:
        return self._make() if self.tls.context is None else TlsPeer(self.tls, self._make)

    def _context(self, wanted: WebConfig | None) -> ssl.SSLContext | None:
        if wanted is None or wanted.tls is None:
            return None
        for name, text in tls_warnings(wanted.tls, datetime.now(timezone.utc)):
            self._log.warning("%s.tls.%s: %s", self._field, name, text)
        return server_context(f"{self._field}.tls", wanted.tls, self._protocols)
