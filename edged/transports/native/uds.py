"""The Unix socket that local applications connect to, over the native protocol.

Decides where to listen and which limits hold; what one client may do is ``peer``'s.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from typing import Any, Literal

from edged.access.gate import Gate
from edged.config.listen import SocketConfig
from edged.config.schema import Config
from edged.protocol.frames import Limits
from edged.transports.admin_peer import AdminConnection, Other
from edged.transports.native.door import Call, Door
from edged.transports.native.peer import Connection
from edged.transports.server import Server
from edged.transports.socket_file import BACKLOG, bind_socket, remove_socket, set_access

log = logging.getLogger("edged.uds")


class UnixServer(Server[Connection]):
    """Listens on one Unix socket.

    Args:
        door: the dataplane.
        calls: what CALL frames may ask for, by verb; each returns a plain document.
        gate: who may ask for what; one for all listeners.
        entry: whose socket it is: that of all clients, or that of administrators.
    """

    def __init__(
        self,
        door: Door,
        calls: dict[str, Call],
        gate: Gate | None = None,
        entry: Literal["native", "admin"] = "native",
    ) -> None:
        super().__init__("uds", entry, gate, log)
        self.door = door
        self.other: Other | None = None
        """Makes the protocol for who speaks another one on this socket; None where nobody may."""
        self.calls = calls
        self.limits = Limits()
        self.max_in_flight = 1024
        self.shares_core = True
        self.max_unread_bytes = 64 << 20
        self.stream_wait_s = 60.0
        self.max_regions = 16
        self.max_shared_bytes = 256 << 20
        self.lent: set[int] = set()
        self.requests = 0
        self._server: asyncio.AbstractServer | None = None
        self._socket: SocketConfig | None = None
        self._is_passed = False

    @property
    def path(self) -> str:
        """Where it listens; empty before ``start``."""
        return self._socket.path if self._socket else ""

    async def start(self, config: Config, passed: socket.socket | None = None) -> None:
        """Begin to listen, on a socket the service manager passed or on one of our own."""
        self.configure(config)
        self._is_passed = passed is not None
        wanted = self._wanted(config)
        if wanted is not None:
            sock = passed if passed is not None else bind_socket(wanted, self._field)
            await self._listen(sock, wanted)

    def configure(self, config: Config) -> None:
        """Take over limits; they hold for connections made from now on."""
        super().configure(config)
        self.limits = Limits(body_bytes=int(config.limits.max_request))
        self.max_in_flight = config.limits.max_in_flight
        self.max_unread_bytes = int(config.limits.max_unread)
        self.stream_wait_s = int(config.limits.stream_wait) / 1e9
        self.max_regions = config.limits.max_regions
        self.max_shared_bytes = int(config.limits.max_shared)
        self.shares_core = config.limits.share_core

    async def apply(self, config: Config) -> None:
        """Follow a changed configuration: the new socket is there before the old one goes.

        Raises:
            ApplyError: the new socket cannot be made; the old one still listens.
        """
        wanted = self._wanted(config)
        if wanted is None:
            self.close_listener()
            self._socket = None
        elif wanted != self._socket and not self._is_passed:
            old_path, old_server = self.path, self._server
            if wanted.path == old_path:
                set_access(wanted, self._field)
                self._socket = wanted
            else:
                await self._listen(bind_socket(wanted, self._field), wanted)
                if old_server is not None:
                    old_server.close()
                remove_socket(old_path)
        self.configure(config)

    @property
    def _field(self) -> str:
        return "listen.socket" if self.entry == "native" else "listen.admin"

    def _wanted(self, config: Config) -> SocketConfig | None:
        return config.listen.socket if self.entry == "native" else config.listen.admin

    def close_listener(self) -> None:
        """Take no new connections; those that are open stay."""
        if self._server is not None:
            self._server.close()
            self._server = None
            if not self._is_passed:
                remove_socket(self.path)

    async def _listen(self, sock: socket.socket, config: SocketConfig) -> None:
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        # Since Python 3.13 a loop removes the file of any socket it listened on, also of one that
        # the service manager passed and needs for the next start; we remove our own ourselves.
        options: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
        self._server = await loop.create_unix_server(
            self._connection, sock=sock, backlog=BACKLOG, **options
        )
        self._socket = config
        log.info("listening on %s", config.path)

    def _connection(self) -> Connection:
        return Connection(self) if self.other is None else AdminConnection(self, self.other)
