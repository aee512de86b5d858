"""All listeners of the house as one: a change moves each of them, or none.

Decides the order only: what can be undone is bound first, and the native socket last.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Literal

from edged.access.gate import Gate, build_access
from edged.config.listen import GrpcConfig, HttpConfig, MetricsConfig
from edged.config.schema import Config
from edged.errors import ApplyError
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

_FIGURES, _HTTP, _GRPC, _ADMIN = "metrics", "http", "grpc", "admin"
_TLS, _GRPC_TLS = "tls", "grpc_tls"

_Wanted = MetricsConfig | HttpConfig | GrpcConfig | None


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
        self._scrape = scrape
        self._http: HttpServer | None = None
        self._grpc: GrpcServer | None = None
        self._door = door
        self._pages = pages
        self._health = health
        self._lag = lag
        self._gate = gate
        self._memory = NamedMemory()
        """What clients of HTTP and gRPC have registered: one set, and one bound, for both."""
        self._wanted: dict[str, _Wanted] = {}

    async def start_gate(self, config: Config) -> None:
        """Know who may ask for what; before anybody can."""
        self._gate.follow(await asyncio.to_thread(build_access, config))

    async def start_scrape(self, config: Config) -> None:
        """Listen for probes."""
        await self._commit_scrape(self._prepare(self._scrape, _FIGURES, config), config)

    async def start_web(self, config: Config) -> None:
        """Listen for HTTP and gRPC; models answer by now."""
        self._memory.allow(config.listen.shared_memory)
        await self._commit_http(self._prepare(self._web(config), _HTTP, config), config)
        await self._commit_grpc(self._prepare_grpc(config), config)

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
        return shown(self._http.place) if self._http is not None else ""

    def by_name(self) -> dict[str, ScrapeServer | HttpServer | GrpcServer | UnixServer]:
        """All but the native one, for their figures."""
        found: dict[str, ScrapeServer | HttpServer | GrpcServer | UnixServer] = {
            "metrics": self._scrape
        }
        if self._admin.path:
            found["admin"] = self._admin
        if self._admin_http is not None:
            found["admin_http"] = self._admin_http
        if self._admin_grpc is not None:
            found["admin_grpc"] = self._admin_grpc
        if self._http is not None:
            found["http"] = self._http
        if self._grpc is not None:
            found["grpc"] = self._grpc
        return found

    def close_admin(self) -> None:
        """Administrators wait for the next start."""
        self._admin.close()

    def close_web_listeners(self) -> None:
        """Take no new connections over HTTP and gRPC."""
        for server in (self._http, self._grpc):
            if server is not None:
                server.close_listener()

    async def close_web(self, timeout_s: float) -> None:
        """End the connections of HTTP and gRPC, each after its answer, within so long."""
        every = (self._http, self._grpc, self._admin_http, self._admin_grpc)
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
        figures = self._prepare(self._scrape, _FIGURES, config, is_strict=True)
        http, web = None, self._web(config)
        grpc = None
        try:
            http = self._prepare(web, _HTTP, config, is_strict=True)
            grpc = self._prepare_grpc(config, is_strict=True)
            await self._apply_admin(config)
            await self._server.apply(config)
        except BaseException:
            with contextlib.suppress(ApplyError):
                await self._admin.apply(self._config)
            if grpc is not None and self._grpc is not None:
                self._grpc.abandon(grpc)
            if http is not None and web is not None:
                web.abandon(http)
            if figures is not None:
                self._scrape.abandon(figures)
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
        await self._commit_scrape(figures, config)
        await self._commit_http(http, config)
        await self._commit_grpc(grpc, config)

    async def refresh(self, config: Config) -> None:
        """Look again at what changes under the same configuration: a taken port, certificates."""
        if self._http is not None and self._http.place is None:
            await self._commit_http(self._prepare(self._http, _HTTP, config), config)
        elif self._http is not None:
            self._refresh_tls(_TLS, self._http, config)
        if config.listen.grpc is not None and (self._grpc is None or self._grpc.place is None):
            await self._commit_grpc(self._prepare_grpc(config), config)
        elif self._grpc is not None:
            self._refresh_tls(_GRPC_TLS, self._grpc, config)

    def _refresh_tls(self, key: str, server: HttpServer | GrpcServer, config: Config) -> None:
        try:
            server.refresh(config)
        except ApplyError as exc:
            self._health.degrade(key, f"{exc.message}; those from before are used")
        else:
            self._health.restore(key)

    def close_scrape(self) -> None:
        """The last thing that a stopping daemon stops saying is that it is alive."""
        self._lag.run(wanted=False)
        self._scrape.close()

    def _web(self, config: Config) -> HttpServer | None:
        """The server of HTTP, made when it is first wanted."""
        if self._http is None and config.listen.http is not None:
            from edged.transports.http.endpoint import HttpServer  # noqa: PLC0415 - only what is used

            self._http = HttpServer(self._door, self._pages, self._gate, memory=self._memory)
        return self._http

    def _prepare(
        self,
        server: ScrapeServer | HttpServer | None,
        key: str,
        config: Config,
        *,
        is_strict: bool = False,
    ) -> Staged | None:
        if server is None:
            return None
        # What could not be had before is no reason to refuse a change to something else.
        is_strict = is_strict and _wanted(key, config) != self._wanted.get(key)
        try:
            return server.prepare(config)
        except ApplyError as exc:
            if is_strict:
                raise
            self._health.degrade(key, exc.message)
            return None

    async def _commit_scrape(self, staged: Staged | None, config: Config) -> None:
        wanted = self._wanted[_FIGURES] = config.listen.metrics
        if staged is None:
            return
        try:
            await self._scrape.commit(staged)
        except OSError as exc:
            # It was bound, so this is no mistake of the configuration.
            self._scrape.abandon(staged)
            self._health.degrade(_FIGURES, f"listen.metrics: {exc.strerror or exc}")
            return
        self._lag.run(wanted=wanted is not None)
        if wanted is not None and not is_available():
            self._health.degrade(_FIGURES, MISSING)
        else:
            self._health.restore(_FIGURES)

    async def _commit_http(self, staged: Staged | None, config: Config) -> None:
        self._wanted[_HTTP] = config.listen.http
        if staged is None or self._http is None:
            return
        try:
            await self._http.commit(staged, config)
        except OSError as exc:
            self._http.abandon(staged)
            self._health.degrade(_HTTP, f"listen.http: {exc.strerror or exc}")
            return
        self._health.restore(_HTTP)
        self._health.restore(_TLS)

    def _prepare_grpc(self, config: Config, *, is_strict: bool = False) -> Staged | None:
        if self._grpc is None and config.listen.grpc is None:
            return None
        is_strict = is_strict and config.listen.grpc != self._wanted.get(_GRPC)
        try:
            if self._grpc is None:
                self._grpc = _grpc_server(self._door, self._pages, self._gate, self._memory)
            return self._grpc.prepare(config)
        except ApplyError as exc:
            if is_strict:
                raise
            self._health.degrade(_GRPC, exc.message)
            return None

    async def _commit_grpc(self, staged: Staged | None, config: Config) -> None:
        self._wanted[_GRPC] = config.listen.grpc
        if staged is None or self._grpc is None:
            return
        try:
            await self._grpc.commit(staged, config)
        except OSError as exc:
            self._grpc.abandon(staged)
            self._health.degrade(_GRPC, f"listen.grpc: {exc.strerror or exc}")
            return
        self._health.restore(_GRPC)
        self._health.restore(_GRPC_TLS)


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


def _wanted(key: str, config: Config) -> _Wanted:
    return config.listen.metrics if key == _FIGURES else config.listen.http
