"""The house: constructs every part, lets them run, and takes them down in order.

Decides nothing about requests or configurations; it is the only place that makes long-lived
things. A broken model or configuration never stops it, only a second one that cannot be told
apart from it (the same socket, the same state directory) does.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

from edged.access.gate import Gate
from edged.assembly import make_manager, remember_rollouts
from edged.broker.links import Brokers
from edged.config.identity import node_name
from edged.config.load import Snapshot
from edged.config.schema import Config
from edged.config.watch import Watcher
from edged.engine_house import EngineHouse
from edged.errors import ConfigError
from edged.figures.catalogue import collect
from edged.figures.triton import triton_families
from edged.generation.breaker import Breaker
from edged.generation.desired import Desired
from edged.generation.house import House
from edged.generation.record import Record
from edged.generation.reload import Reloader
from edged.generation.reload_tally import ReloadTally
from edged.generation.retry import Retry
from edged.generation.turns import OneByOne
from edged.incoming.inbox_watch import InboxWatch
from edged.incoming.poller import Poller
from edged.listeners.listeners import Listeners
from edged.pages.oip import OipPages
from edged.pages.probes import Probes
from edged.pages.status import (
    announced_models,
    info_document,
    manifest_text,
    models_document,
    pipelines,
    reload_document,
    socket_document,
    status_document,
    status_line,
)
from edged.serving.dataplane import Dataplane
from edged.serving.manager import Manager
from edged.steward import Steward
from edged.store.findings import Findings
from edged.store.repository import Repository
from edged.system.breath import beside_loop
from edged.system.garbage import settle
from edged.system.supervisor import Supervisor, passed_sockets
from edged.telemetry.exposition import Family, render
from edged.telemetry.health import Health
from edged.telemetry.lag import LoopLag
from edged.transports.native.door import Call
from edged.transports.native.uds import UnixServer
from edged.transports.scrape import ScrapeServer
from edged.transports.web_listener import shown

log = logging.getLogger("edged.daemon")

_DRAIN_S = 10.0
"""Work in hand gets this long at the stop; the unit's TimeoutStopSec is three times that."""
_FLUSH_S = 2.0
"""Answers that were written get this long to leave; a client that does not read loses its own."""


class Daemon:
    """One running process.

    Args:
        config_path: edged.yaml or its directory.
        snapshot: the configuration to boot with.
        state_dir: store and notes.
        supervisor: the service manager.
        boot_problems: why ``snapshot`` is not what the files say; empty when it is.
    """

    def __init__(
        self,
        config_path: Path,
        snapshot: Snapshot,
        state_dir: Path,
        supervisor: Supervisor,
        boot_problems: tuple[str, ...] = (),
    ) -> None:
        config = snapshot.config
        self._snapshot, self._state_dir = snapshot, state_dir
        self._supervisor = supervisor
        self._boot_problems = boot_problems
        self._started = time.monotonic()
        self._stopping = asyncio.Event()
        self.health = Health()
        self.dataplane = Dataplane()
        self._repository = Repository(state_dir)
        self._breaker = Breaker(state_dir, self.health, lambda: self.reloader.config.trial)
        self._findings = Findings.of(state_dir)
        self._reloads = ReloadTally()
        self._retry, self._afterwards = Retry(), OneByOne()
        self._retry_timer: asyncio.TimerHandle | None = None
        self._is_announcing = False
        self.health.on_change = self._announce_soon
        self.engines = EngineHouse(state_dir, config)
        self.poller = Poller(config_path, state_dir, self.health)
        self.manager = self._make_manager(config)
        calls = self._calls()
        self.gate = Gate()
        self.server = UnixServer(self.dataplane, calls, self.gate)
        self.steward = Steward(self.manager, self.dataplane, self._read_again, config.log.level)
        admins = {**calls, **self.steward.calls(), "collect": self._collect}
        self._admin = UnixServer(self.dataplane, admins, self.gate, "admin")
        self._lag = LoopLag()
        self._listeners = self._make_listeners()
        self.links = Brokers(self.dataplane, self.health, state_dir, calls)
        record = Record(state_dir, self._repository)
        house = House(
            config_path, self._repository, record, self.manager, self.dataplane, self.health,
            self.links, self._listeners, self._breaker.is_quarantined,
        )  # fmt: skip
        self.reloader: Reloader = Reloader(house, snapshot)
        self.desired = Desired(house, self.reloader, self.links.report)
        self.links.offer = self.desired.offer
        self.reloader.on_begin, self.reloader.on_end = self._reloading, self._reloaded
        self.inbox = InboxWatch(config_path, state_dir, self.health, self._read_again)
        self._followed: list[Path] | None = None
        # Made before anything is imported from the files, so that no change between is missed.
        self._watcher = Watcher(
            config_path, settle_ns=int(config.reload.settle), poll_ns=int(config.reload.poll),
            on_change=self.reloader.request,
        )  # fmt: skip

    def _calls(self) -> dict[str, Call]:
        return {
            "status": self._status,
            "models": self._models,
            "manifest": self._manifest,
            "metrics": self._metrics,
            "engines": self.engines.answer,
        }

    def _make_listeners(self) -> Listeners:
        probes = Probes(self.dataplane, self._families)
        self._scrape = ScrapeServer(probes.pages())
        pages = OipPages(self.dataplane, probes, lambda: self.reloader.config)
        return Listeners(
            self.server, self._admin, self._scrape, self.dataplane, pages,
            health=self.health, lag=self._lag, gate=self.gate, steward=self.steward,
        )  # fmt: skip

    def _make_manager(self, config: Config) -> Manager:
        manager = make_manager(
            config, self._breaker, self._findings,
            dress=self.engines.dress, health=self.health, on_change=self._on_change,
        )  # fmt: skip
        return remember_rollouts(manager, self._state_dir, self.dataplane, self.health)

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT; then finish what is in hand."""
        loop = asyncio.get_running_loop()
        self._repository.open()
        if self._repository.is_read_only:
            reason = "is on a read-only file system: what it holds serves, nothing can be added"
            self.health.degrade("state", f"the state directory {reason}")
        self._breaker.start(self._repository)
        self._findings.forget(self._repository.digests())
        try:
            await self._start_or_stop(loop)
        finally:
            await self._stop()
        self._breaker.stop()
        manager = self.manager
        if manager.is_loading or manager.workshop.is_busy or manager.recovery.unclosed:
            # Python would wait for threads, and a load may take minutes, a package's step for ever;
            # and it would free what is on a lost device, which has ended processes by SIGABRT.
            # Nothing is needed any more: every answer is written and the store is closed.
            logging.shutdown()
            os._exit(0)

    async def _start_or_stop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start, and serve until told to stop; a start may load for minutes, SIGTERM ends that."""
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        start = loop.create_task(self._start(loop))
        stopping = loop.create_task(self._stopping.wait())
        try:
            await asyncio.wait((start, stopping), return_when=asyncio.FIRST_COMPLETED)
            if start.done():
                start.result()
            with beside_loop():
                await self._stopping.wait()
        finally:
            start.cancel()
            stopping.cancel()
            await asyncio.gather(start, stopping, return_exceptions=True)

    async def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        config = self._snapshot.config
        passed = passed_sockets()
        if len(passed) > 1:
            raise ConfigError(f"{len(passed)} sockets were passed; expected one, for the protocol")
        await self._listeners.start_gate(config)
        # Before models load, which may take minutes: probes are told that we start.
        await self._listeners.start_scrape(config)
        async with self.reloader.changing:
            await self.reloader.boot(self._breaker.crash)
        if self._boot_problems:
            self.reloader.rejected(self._boot_problems)
        await self.desired.start()
        self._reloads.start(self.reloader.report, self.dataplane.table.generation)
        self._try_again()
        settle()
        # Only now do clients connect: the first request already finds its model. The native socket
        # comes last: scripts wait until it answers, and then use the others.
        await self._listeners.start_admin(self.reloader.config)
        await self._listeners.start_web(self.reloader.config)
        await self.server.start(config, passed[0] if passed else None)
        loop.add_signal_handler(signal.SIGHUP, self.reloader.request)
        self._watch(loop)
        self._tell()
        self._feed_watchdog()
        self.inbox.follow(self.reloader.candidate.snapshot)
        loading = lambda: self.manager.is_loading  # noqa: E731
        self.engines.start(self.reloader, self.dataplane, loading, self._repository.digests)
        self.poller.follow(self.reloader.config)
        log.info("ready after %.2f s: %s", time.monotonic() - self._started, self._line())

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        if self.reloader.config.reload.watch:
            self.reloader.is_writing, self.reloader.changes = self._watcher.signs
            self._follow()
            self._watcher.start(loop)

    def _follow(self) -> None:
        """Watch the bundles that the configuration names now."""
        paths = self.reloader.followed()
        if paths == self._followed:
            return
        self._followed = paths
        self._watcher.follow(paths)
        # What was saved after the files were read and before they were followed is applied now.
        self.reloader.request()

    async def _stop(self) -> None:
        self._supervisor.stopping()
        self.reloader.stop()
        self._afterwards.stop()
        self.desired.stop()
        self.engines.stop()
        self.inbox.stop()
        self.poller.stop()
        self._watcher.stop()
        self.server.close_listener()
        self._listeners.close_admin()
        self._listeners.close_web_listeners()
        await self.links.drain(_DRAIN_S)
        self.dataplane.is_draining = True
        try:
            await asyncio.wait_for(self.manager.drained(), _DRAIN_S)
        except asyncio.TimeoutError:
            log.warning("some requests were not answered within %.0f s", _DRAIN_S)
        self.server.close()
        await asyncio.gather(self.server.closed(_FLUSH_S), self._listeners.close_web(_FLUSH_S))
        self._listeners.close_scrape()
        self.manager.stop()
        self._repository.close()
        log.info("stopped")

    def _announce_soon(self) -> None:
        """Tell the broker what we are, once for all that changes in this turn of the loop."""
        if not self._is_announcing:
            self._is_announcing = True
            asyncio.get_running_loop().call_soon(self._announce)

    def _announce(self) -> None:
        self._is_announcing = False
        if self.reloader.config.mqtt is None:
            return  # nobody to tell; a configuration that names a broker comes by here
        info = info_document(self.reloader, self.dataplane, self.health)
        self.links.announce(info, announced_models(self.dataplane))

    def _on_change(self) -> None:
        self.reloader.review()
        self._announce_soon()

    def _read_again(self) -> None:
        self.reloader.request()

    def _reloading(self) -> None:
        self._watcher.doubt()
        self._supervisor.reloading()

    def _reloaded(self) -> None:
        self._reloads.note(self.reloader.report, self.dataplane.table.generation)
        self._try_again()
        self.desired.refresh_soon()
        self.inbox.follow(self.reloader.candidate.snapshot)
        self.poller.follow(self.reloader.config)
        self._announce_soon()
        follow_log = partial(self.steward.follow, self.reloader.config)
        self._afterwards.do(self._follow, self._tell, follow_log, self.engines.review)

    def _tell(self) -> None:
        self._supervisor.ready(self._line())

    def _try_again(self) -> None:
        """What was refused for want of descriptors or room is asked for again."""
        if self._retry_timer is not None:
            self._retry_timer.cancel()
            self._retry_timer = None
        delay_s = self._retry.after(self.reloader.report)
        if delay_s is not None:
            loop = asyncio.get_running_loop()
            self._retry_timer = loop.call_later(delay_s, self.reloader.request)

    def _feed_watchdog(self) -> None:
        """Tell the service manager we live, from the loop itself: a blocked loop feeds nothing."""
        if not self._supervisor.watchdog_ns:
            return
        self._supervisor.alive()
        delay = self._supervisor.watchdog_ns / 3e9
        asyncio.get_running_loop().call_later(delay, self._feed_watchdog)

    def _line(self) -> str:
        ready, table = self.reloader.ready, self.dataplane.table
        return status_line(ready, table, self.links.line(), self.health.degradations())

    async def _status(self, arguments: dict[str, Any]) -> dict[str, Any]:
        if arguments.get("part") == "config":
            return reload_document(self.reloader, self.dataplane)
        document = status_document(
            node=node_name(self.reloader.config),
            started=self._started,
            reloader=self.reloader,
            dataplane=self.dataplane,
            manager=self.manager,
            health=self.health,
            links=self.links.stats(),
            socket=socket_document(self.server),
            metrics=shown(self._scrape.place),
        )
        more = {"http": self._listeners.http_place, "engines": self.engines.as_dict()}
        more["desired"], more["log_level"] = self.desired.document(), self.steward.level
        return {**document, **self._supply(), **more}

    def _supply(self) -> dict[str, Any]:
        """What comes here: bundles into the store, by the inbox and from sources."""
        return {
            "store": self._repository.collector.as_dict(),
            "inbox": self.inbox.as_dict(),
            "pulls": self.poller.as_list(),
            "documents": self.desired.as_dict(),
        }

    async def _collect(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return await self.reloader.collect(arguments)

    async def _models(self, _arguments: dict[str, Any]) -> list[dict[str, Any]]:
        return models_document(self.dataplane)

    def _families(self) -> list[Family]:
        families = collect(
            reloader=self.reloader,
            reloads=self._reloads,
            dataplane=self.dataplane,
            manager=self.manager,
            health=self.health,
            links=self.links.stats(),
            listeners={"socket": self.server, **self._listeners.by_name()},
            lag=self._lag.times,
            engines=self.engines.samples(),
            denied=self.gate.refusals,
            supply=self._supply(),
        )
        if self._listeners.http_place:
            families += triton_families([*self.manager.releases(), *pipelines(self.dataplane)])
        return families

    async def _metrics(self, _arguments: dict[str, Any]) -> str:
        text, _ = await render(self._families())
        return text.decode()

    async def _manifest(self, arguments: dict[str, Any]) -> str:
        return manifest_text(self.dataplane, arguments)
