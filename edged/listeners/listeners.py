"""All listeners of the house as one: a change moves each of them, or none.

Decides the order only: what can be undone is bound first, and the native socket last.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, Literal

from edged.access.gate import Gate, build_access
from edged.config.schema import Config
from edged.errors import ApplyError
from edged.listeners.listener import Listener
from edged.telemetry.exposition import MISSING, is_available
from edged.telemetry.health import Health
from edged.telemetry.lag import LoopLag
from edged.transports.admin_peer import GRPC
from edged.transports.named_memory import NamedMemory
from edged.transports.native.uds import UnixServer
from edged.transports.oip_door import Admin, Door, Pages
from edged.transports.scrape import ScrapeServer
from edged.transports.web_listener import Staged, shown

if TYPE_CHECKING:
    from edged.transports.grpc.endpoint import GrpcServer
    from edged.transports.http.endpoint import HttpServer

log = logging.getLogger("edged.daemon")

_ADMIN = "admin"


class Listeners:
    """The sockets of the native protocol, of HTTP and gRPC, and of scrapers and probes.

    Args:
        server: of the native protocol; the house starts it itself, once models answer.
        admin: the same for administrators, where there is a socket for them.
        scrape: of figures and health.
        door: what HTTP asks for inference; its modules are only imported where it is configured.
        pages: what else can be asked for over HTTP.
        health: where a listener that cannot be had is noted: a device whose port is taken serves
            all the same.
        lag: sampled while figures are scraped.
        gate: who may ask for what.
        steward: what administrators ask over HTTP, on their socket.
    """

    def __init__(
        self,
        server: UnixServer,
        admin: UnixServer,
        scrape: ScrapeServer,
        door: Door,
        pages: Pages,
        *,
        health: Health,
        lag: LoopLag,
        gate: Gate,
        steward: Admin,
    ) -> None:
        self._server = server
        self._admin = admin
        self._admin_http: HttpServer | None = None
        self._admin_grpc: GrpcServer | None = None
        self._steward = steward
        admin.other = self._hear_admin
        self._config = Config()
        """What the administrators' socket follows now."""
        self._door = door
        self._pages = pages
        self._health = health
        self._lag = lag
        self._gate = gate
        self._memory = NamedMemory()
        """What clients of HTTP and gRPC have registered: one set, and one bound, for both."""
        self._scrape_server = scrape
        self._scrape: Listener[ScrapeServer] = Listener(
            "metrics", health, lambda: scrape, after=self._scrape_follows
        )
        self._scrape.server = scrape  # its figures are there though nobody ever wanted it
        self._http: Listener[HttpServer] = Listener(
            "http", health, self._http_server, tls_key="tls"
        )
        self._grpc: Listener[GrpcServer] = Listener(
            "grpc",
            health,
            lambda: _grpc_server(door, pages, gate, self._memory),
            tls_key="grpc_tls",
        )

    async def start_gate(self, config: Config) -> None:
        """Know who may ask for what; before anybody can."""
        self._gate.follow(await asyncio.to_thread(build_access, config))

    async def start_scrape(self, config: Config) -> None:
        """Listen for probes."""
        await self._scrape.commit(self._scrape.prepare(config), config)

    async def start_web(self, config: Config) -> None:
        """Listen for HTTP and gRPC; models answer by now."""
        self._memory.allow(config.listen.shared_memory)
        for listener in (self._http, self._grpc):
            await listener.commit(listener.prepare(config), config)

    async def start_admin(self, config: Config) -> None:
        """Listen for administrators; a device where that cannot be serves all the same."""
        self._config = config
        try:
            await self._admin.start(config)
        except ApplyError as exc:
            self._health.degrade(_ADMIN, exc.message)

    def _hear_admin(self, first: bytes) -> asyncio.Protocol:
        """A connection of an administrator who does not speak the native protocol.

        The modules come with the first; who speaks gRPC where that is not installed hears HTTP.
        """
        if first.startswith(GRPC):
            with contextlib.suppress(ApplyError):
                if self._admin_grpc is None:
                    made = _grpc_server(self._door, self._pages, self._gate, admin=self._steward)
                    made.configure(self._config)
                    self._admin_grpc = made
                return self._admin_grpc.hear()
        if self._admin_http is None:
            from edged.transports.http.endpoint import HttpServer  # noqa: PLC0415 - only what is used

            self._admin_http = HttpServer(self._door, self._pages, self._gate, self._steward)
            self._admin_http.configure(self._config)
        return self._admin_http.hear()

    async def _apply_admin(self, config: Config) -> None:
        try:
            await self._admin.apply(config)
        except ApplyError as exc:
            # What could not be had before is no reason to refuse a change to something else.
            if config.listen.admin != self._config.listen.admin:
                raise
            self._health.degrade(_ADMIN, exc.message)
        else:
            self._health.restore(_ADMIN)

    @property
    def http_place(self) -> str:
        """Where HTTP is served, for people; empty for nowhere."""
        return shown(self._http.place)

    def by_name(self) -> dict[str, ScrapeServer | HttpServer | GrpcServer | UnixServer]:
        """All but the native one, for their figures."""
        found: dict[str, ScrapeServer | HttpServer | GrpcServer | UnixServer] = {
            "metrics": self._scrape_server
        }
        if self._admin.path:
            found["admin"] = self._admin
        if self._admin_http is not None:
            found["admin_http"] = self._admin_http
        if self._admin_grpc is not None:
            found["admin_grpc"] = self._admin_grpc
        if self._http.server is not None:
            found["http"] = self._http.server
        if self._grpc.server is not None:
            found["grpc"] = self._grpc.server
        return found

    def close_admin(self) -> None:
        """Administrators wait for the next start."""
        self._admin.close()

    def close_web_listeners(self) -> None:
        """Take no new connections over HTTP and gRPC."""
        for server in (self._http.server, self._grpc.server):
            if server is not None:
                server.close_listener()

    async def close_web(self, timeout_s: float) -> None:
        """End the connections of HTTP and gRPC, each after its answer, within so long."""
        every = (self._http.server, self._grpc.server, self._admin_http, self._admin_grpc)
        servers = [server for server in every if server is not None]
        for server in servers:
            server.close()
        await asyncio.gather(*(server.closed(timeout_s) for server in servers))

    async def apply(self, config: Config) -> None:
        """Follow a changed configuration.

        Raises:
            ApplyError: one of them cannot; then all listen where they did.
        """
        access = await asyncio.to_thread(build_access, config)
        moved: list[tuple[Listener[Any], Staged | None]] = []
        try:
            for listener in (self._scrape, self._http, self._grpc):
                # One by one: those before one that refuses are given up.
                staged = listener.prepare(config, is_strict=True)
                moved.append((listener, staged))
            await self._apply_admin(config)
            await self._server.apply(config)
        except BaseException:
            with contextlib.suppress(ApplyError):
                await self._admin.apply(self._config)
            for listener, staged in reversed(moved):
                listener.abandon(staged)
            raise
        # Before anything that comes with this change can be asked for.
        self._gate.follow(access)
        self._config = config
        self._memory.allow(config.listen.shared_memory)
        for server in (self._admin_http, self._admin_grpc):
            if server is not None:
                server.configure(config)
                if config.listen.admin is None:
                    server.close()
        for listener, staged in moved:
            await listener.commit(staged, config)

    async def refresh(self, config: Config) -> None:
        """Look again at what changes under the same configuration: a taken port, certificates."""
        for listener in (self._scrape, self._http, self._grpc):
            await listener.refresh(config)
        if self._config.listen.admin is not None and not self._admin.path:
            await self._apply_admin(config)

    def close_scrape(self) -> None:
        """The last thing that a stopping daemon stops saying is that it is alive."""
        self._lag.run(wanted=False)
        self._scrape_server.close()

    def _scrape_follows(self, config: Config) -> str:
        wanted = config.listen.metrics is not None
        self._lag.run(wanted=wanted)
        return MISSING if wanted and not is_available() else ""

    def _http_server(self) -> HttpServer:
        from edged.transports.http.endpoint import HttpServer  # noqa: PLC0415 - only what is used

        return HttpServer(self._door, self._pages, self._gate, memory=self._memory)


def _grpc_server(
    door: Door,
    pages: Pages,
    gate: Gate,
    memory: NamedMemory | None = None,
    admin: Admin | None = None,
) -> GrpcServer:
    # Only what is used is imported.
    from edged.transports.grpc.service import GrpcService  # noqa: PLC0415

    try:
        from edged.transports.grpc.endpoint import GrpcServer  # noqa: PLC0415
    except ImportError as exc:
        raise ApplyError(
            f"listen.grpc: hpack cannot be imported ({exc}); install edged[grpc], or leave it out"
        ) from exc
    entry: Literal["grpc", "admin"] = "grpc" if admin is None else "admin"
    return GrpcServer(GrpcService(door, pages, memory, admin), gate, entry)
