"""Where HTTP is listened for: one TCP port or one Unix socket, which can be moved as a whole.

What moves is bound before the old one ends, so that a change can still be refused with all others.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
import ssl
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from edged.config.listen import SocketConfig
from edged.errors import ApplyError
from edged.transports.socket_file import BACKLOG, bind_socket, remove_socket, set_access


class Place(Protocol):
    """Where to listen; either ``port`` or ``path`` is given."""

    @property
    def host(self) -> str:
        """Address of the port."""
        ...

    @property
    def port(self) -> int | None:
        """TCP port."""
        ...

    @property
    def path(self) -> str | None:
        """Unix socket."""
        ...

    @property
    def mode(self) -> str:
        """Octal permissions of the path."""
        ...

    @property
    def group(self) -> str | None:
        """Who owns the path."""
        ...


@dataclass(slots=True)
class Staged:
    """A listener that is bound but does not answer yet, in place of the one that does."""

    place: Place | None
    sock: socket.socket | None
    context: ssl.SSLContext | None = None
    """What clients have to prove there; None for a place that speaks plain."""


class WebListener:
    """Listens where it is told to.

    Args:
        field: where in the configuration that stands.
        what: what is said there, for the log.
        make: one connection's protocol.
        log: whose listener it is.
    """

    def __init__(
        self,
        field: str,
        what: str,
        make: Callable[[], asyncio.BaseProtocol],
        log: logging.Logger,
    ) -> None:
        self._field = field
        self._what = what
        self._make = make
        self._log = log
        self._server: asyncio.AbstractServer | None = None
        self.place: Place | None = None
        """Where it listens; None while it does not."""

    def prepare(self, wanted: Place | None) -> Staged:
        """Bind what the configuration asks for; what listens now is left as it is.

        Raises:
            ApplyError: it cannot be bound.
        """
        place = self.place
        if wanted is None or wanted == place:
            return Staged(wanted, None)
        if wanted.path is None:
            if place is not None and (wanted.host, wanted.port) == (place.host, place.port):
                return Staged(wanted, None)
            return Staged(wanted, self._bind_tcp(wanted))
        if place is not None and wanted.path == place.path:
            set_access(_as_socket(wanted), self._field)
            return Staged(wanted, None)
        return Staged(wanted, bind_socket(_as_socket(wanted), self._field))

    def abandon(self, staged: Staged) -> None:
        """Undo ``prepare``."""
        place = self.place
        if staged.sock is not None:
            staged.sock.close()
            if staged.place is not None and staged.place.path is not None:
                remove_socket(staged.place.path)
        elif staged.place != place and place is not None and place.path is not None:
            with contextlib.suppress(ApplyError):
                set_access(_as_socket(place), self._field)

    async def commit(self, staged: Staged) -> None:
        """Answer where ``prepare`` bound, and there alone."""
        if staged.sock is not None or staged.place is None:
            self.close()
        if staged.sock is not None:
            staged.sock.setblocking(False)
            await self._listen(staged.sock)
            self._log.info("%s on %s", self._what, shown(staged.place))
        self.place = staged.place

    def close(self) -> None:
        """Listen no more; connections that are open stay."""
        if self._server is not None:
            self._server.close()
            self._server = None
            if self.place is not None and self.place.path is not None:
                remove_socket(self.place.path)
        self.place = None

    async def _listen(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        if sock.family != socket.AF_UNIX:
            self._server = await loop.create_server(self._make, sock=sock, backlog=BACKLOG)
            return
        # As in uds.py: we remove our own file ourselves.
        options: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
        self._server = await loop.create_unix_server(
            self._make, sock=sock, backlog=BACKLOG, **options
        )

    def _bind_tcp(self, place: Place) -> socket.socket:
        host = "127.0.0.1" if place.host == "localhost" else place.host
        is_v6 = ipaddress.ip_address(host).version == 6
        sock = socket.socket(socket.AF_INET6 if is_v6 else socket.AF_INET, socket.SOCK_STREAM)
        try:
            # Else a daemon that comes back waits a minute for the port of its last connections.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, place.port))
            sock.listen(BACKLOG)
        except OSError as exc:
            sock.close()
            raise ApplyError(
                f"{self._field}: cannot listen on {shown(place)}: {exc.strerror or exc}; choose "
                "another port or end what uses it"
            ) from exc
        return sock


def shown(place: Place | None) -> str:
    """Where a listener is, for people; empty for none."""
    if place is None:
        return ""
    if place.path is not None:
        return place.path
    host = f"[{place.host}]" if ":" in place.host else place.host
    scheme = "http" if getattr(place, "tls", None) is None else "https"
    return f"{scheme}://{host}:{place.port}"


def _as_socket(place: Place) -> SocketConfig:
    return SocketConfig(path=place.path or "", mode=place.mode, group=place.group)
