"""The listener for scrapers and probes: GET only, one request a connection, off unless configured.

Decides who may stay connected and for how long; what a page says is the house's. A listener that
moves is bound before the old one ends, so that a change can still be refused as a whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from edged.config.schema import Config, MetricsConfig, SocketConfig
from edged.errors import ApplyError
from edged.protocol.http_get import (
    HeadReader,
    RefusedError,
    Reply,
    Request,
    encode_reply,
    refusal,
)
from edged.transports.socket_file import BACKLOG, bind_socket, remove_socket, set_access

log = logging.getLogger("edged.metrics")

MAX_CONNECTIONS = 16
"""A scraper, two probes and a few people; whoever comes beyond is told to come back."""
LIFETIME_S = 10.0
"""From the first byte to the last; Prometheus gives up after 10 s by default too."""
FIELD = "listen.metrics"

Page = Callable[[Request], Awaitable[Reply]]


@dataclass(slots=True)
class Staged:
    """A listener that is bound but does not answer yet, in place of the one that does."""

    config: MetricsConfig | None
    sock: socket.socket | None


class ScrapeServer:
    """Answers GET on one TCP port or Unix socket.

    Args:
        pages: what is answered, by path.
        lifetime_s: how long one connection may last.
    """

    def __init__(self, pages: Mapping[str, Page], lifetime_s: float = LIFETIME_S) -> None:
        self.pages = pages
        self.lifetime_s = lifetime_s
        self.connections: set[Visit] = set()
        self.accepted = 0
        self.refused = 0
        self.received_bytes = self.sent_bytes = 0
        self._config: MetricsConfig | None = None
        self._server: asyncio.AbstractServer | None = None

    @property
    def config(self) -> MetricsConfig | None:
        """Where it listens; None while it does not."""
        return self._config

    def prepare(self, config: Config) -> Staged:
        """Bind what the configuration asks for; what listens now is left as it is.

        Raises:
            ApplyError: it cannot be bound.
        """
        wanted = config.listen.metrics
        if wanted is None or wanted == self._config:
            return Staged(wanted, None)
        if wanted.path is not None and self._config and wanted.path == self._config.path:
            set_access(_as_socket(wanted), FIELD)
            return Staged(wanted, None)
        if wanted.path is not None:
            return Staged(wanted, bind_socket(_as_socket(wanted), FIELD))
        return Staged(wanted, _bind_tcp(wanted))

    def abandon(self, staged: Staged) -> None:
        """Undo ``prepare``."""
        if staged.sock is not None:
            staged.sock.close()
            if staged.config is not None and staged.config.path is not None:
                remove_socket(staged.config.path)
        elif staged.config != self._config and self._config and self._config.path is not None:
            with contextlib.suppress(ApplyError):
                set_access(_as_socket(self._config), FIELD)

    async def commit(self, staged: Staged) -> None:
        """Answer where ``prepare`` bound, and there alone."""
        if staged.sock is not None or staged.config is None:
            self._end()
        if staged.sock is not None:
            staged.sock.setblocking(False)
            await self._listen(staged.sock)
            log.info("figures and health on %s", shown(staged.config))
        self._config = staged.config

    def close(self) -> None:
        """Listen no more, and end what is open."""
        self._end()
        self._config = None
        for visit in list(self.connections):
            visit.abort()

    def _end(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
            if self._config is not None and self._config.path is not None:
                remove_socket(self._config.path)

    async def _listen(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        if sock.family != socket.AF_UNIX:
            self._server = await loop.create_server(lambda: Visit(self), sock=sock, backlog=BACKLOG)
            return
        # As in uds.py: we remove our own file ourselves.
        options: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
        self._server = await loop.create_unix_server(
            lambda: Visit(self), sock=sock, backlog=BACKLOG, **options
        )


class Visit(asyncio.Protocol):
    """One connection: one request, one answer."""

    def __init__(self, server: ScrapeServer) -> None:
        self._server = server
        self._reader = HeadReader()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_answered = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a request; refuse when there are too many."""
        self._transport = cast(asyncio.Transport, transport)
        server = self._server
        if len(server.connections) >= MAX_CONNECTIONS:
            server.refused += 1
            text = f"{MAX_CONNECTIONS} connections are open, the most that are taken\n"
            self._answer(Reply(503, text.encode(), headers=(("Retry-After", "1"),)))
            return
        server.accepted += 1
        server.connections.add(self)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(server.lifetime_s, self.abort)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Forget it."""
        self._transport = None
        self._server.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        """Answer once the head is whole; what comes after it is not looked at."""
        self._server.received_bytes += len(data)
        if self._is_answered or self._task is not None:
            return
        try:
            request = self._reader.feed(data)
        except RefusedError as exc:
            self._answer(refusal(exc))
            return
        if request is not None:
            if self._transport is not None:
                self._transport.pause_reading()
            self._task = asyncio.get_running_loop().create_task(self._visit(request))

    def abort(self) -> None:
        """Its time is over."""
        if self._transport is not None:
            self._transport.abort()

    async def _visit(self, request: Request) -> None:
        page = self._server.pages.get(request.path)
        if page is None:
            known = " ".join(sorted(self._server.pages))
            self._answer(refusal(RefusedError(404, f"there is: {known}")))
            return
        try:
            reply = await page(request)
        except Exception:
            log.exception("the page %s could not be made", request.path)
            reply = refusal(RefusedError(500, "the page could not be made; see the daemon's log"))
        self._answer(reply)

    def _answer(self, reply: Reply) -> None:
        self._is_answered = True
        if self._transport is not None:
            data = encode_reply(reply)
            self._server.sent_bytes += len(data)
            self._transport.write(data)
            self._transport.close()


def shown(config: MetricsConfig | None) -> str:
    """Where a listener is, for people; empty for none."""
    if config is None:
        return ""
    if config.path is not None:
        return config.path
    host = f"[{config.host}]" if ":" in config.host else config.host
    return f"http://{host}:{config.port}"


def _as_socket(config: MetricsConfig) -> SocketConfig:
    return SocketConfig(path=config.path or "", mode=config.mode, group=config.group)


def _bind_tcp(config: MetricsConfig) -> socket.socket:
    host = "127.0.0.1" if config.host == "localhost" else config.host
    is_v6 = ipaddress.ip_address(host).version == 6
    sock = socket.socket(socket.AF_INET6 if is_v6 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        # Else a daemon that comes back waits a minute for the port of its last connections.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, config.port))
        sock.listen(BACKLOG)
    except OSError as exc:
        sock.close()
        raise ApplyError(
            f"{FIELD}: cannot listen on {shown(config)}: {exc.strerror or exc}; choose another "
            "port or end what uses it"
        ) from exc
    return sock
