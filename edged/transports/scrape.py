"""The listener for scrapers and probes: GET only, one request a connection, off unless configured.

Decides who may stay connected and for how long; what a page says is the house's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import cast

from edged.config.schema import Config
from edged.protocol.http_get import (
    HeadReader,
    RefusedError,
    Reply,
    Request,
    encode_reply,
    refusal,
)
from edged.transports.web_listener import Place, Staged, WebListener

log = logging.getLogger("edged.metrics")

MAX_CONNECTIONS = 16
"""A scraper, two probes and a few people; whoever comes beyond is told to come back."""
LIFETIME_S = 10.0
"""From the first byte to the last; Prometheus gives up after 10 s by default too."""
FIELD = "listen.metrics"

Page = Callable[[Request], Awaitable[Reply]]


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
        self._listener = WebListener(FIELD, "figures and health", lambda: Visit(self), log)

    @property
    def place(self) -> Place | None:
        """Where it listens; None while it does not."""
        return self._listener.place

    def prepare(self, config: Config) -> Staged:
        """Bind what the configuration asks for; what listens now is left as it is.

        Raises:
            ApplyError: it cannot be bound.
        """
        return self._listener.prepare(config.listen.metrics)

    def abandon(self, staged: Staged) -> None:
        """Undo ``prepare``."""
        self._listener.abandon(staged)

    def refresh(self, config: Config) -> None:
        """There are no certificates to be read again."""

    async def commit(self, staged: Staged, config: Config) -> None:  # noqa: ARG002
        """Answer where ``prepare`` bound, and there alone."""
        await self._listener.commit(staged)

    def close(self) -> None:
        """Listen no more, and end what is open."""
        self._listener.close()
        for visit in list(self.connections):
            visit.abort()


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
