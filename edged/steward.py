"""What administrators ask of the daemon while it runs: loads, unloads, the log's level, a reload.

What should be there is the configuration's word and stays it: nothing here writes it, and nothing
is remembered after a restart. A load only brings back what sleeps, failed or was unloaded. What is
unloaded answers nobody and stays out of memory until a load, or until the configuration asks for
another release of that model: a reload of something else does not bring it back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

from edged.config.schema import Config
from edged.errors import (
    ConfigError,
    DeadlineExceededError,
    EdgedError,
    InvalidRequestError,
    LoadError,
    ModelNotFoundError,
    ModelNotReadyError,
)
from edged.pages.status import members_of
from edged.protocol.oip_settings import LEVELS
from edged.serving.dataplane import Dataplane
from edged.serving.lifecycle import BUSY, NEVER_NS, State
from edged.serving.manager import Manager
from edged.serving.release import ServedRelease
from edged.serving.router import Route, choose_release
from edged.serving.standing import Standing
from edged.telemetry import log as logging_setup
from edged.transports.native.door import Call

log = logging.getLogger("edged.daemon")

_LONGEST_S = 30.0
"""An unload waits so long for what was asked before; meanwhile nothing new is taken."""
_POLL_S = 0.005
_WHY = "an administrator unloaded it; edged load brings it back"


class Steward:
    """See above; used from the event loop.

    Args:
        manager: the releases.
        dataplane: the table.
        reload: has the configuration read again.
        level: the log's, as configured at the start.
    """

    def __init__(
        self, manager: Manager, dataplane: Dataplane, reload: Callable[[], None], level: str
    ) -> None:
        self._manager = manager
        self._dataplane = dataplane
        self._reload = reload
        self._configured = self.level = level

    def calls(self) -> dict[str, Call]:
        """What the native protocol takes on the administrators' socket."""
        return {
            "reload": self._on_reload,
            "load": self._on_load,
            "unload": self._on_unload,
            "logging": self._on_logging,
            "promote": self._on_promote,
            "abort": self._on_abort,
        }

    def follow(self, config: Config) -> None:
        """Write the log as configured, where that has changed; else as it was last asked for."""
        if config.log.level != self._configured:
            self._configured = self.level = config.log.level
            _look_anew()
        logging_setup.setup(self.level)

    def set_level(self, level: str) -> None:
        """Write the log at this level, until a restart or until the configured one changes.

        Raises:
            InvalidRequestError: there is no such level.
        """
        if level not in LEVELS:
            raise InvalidRequestError(
                f"level {str(level)[:32]!r}: expected one of {', '.join(LEVELS)}"
            )
        if level != self.level:
            log.warning("the log is written at %s from now on; configured: %s", level,
                        self._configured)  # fmt: skip
            self.level = level
            logging_setup.setup(level)
            _look_anew()

    def check(self, model: str) -> None:
        """Go on if there is such a model; raises ModelNotFoundError."""
        self._route(model)

    async def load(self, model: str) -> None:
        """Bring what answers for a model into memory, and wait for it; of a pipeline, its models.

        Raises:
            EdgedError: there is no such model, or it cannot be loaded; says why.
        """
        route = self._route(model)
        if members := members_of(route):
            for member in members:
                of_model = self._route(member.model)
                self._readmit(of_model)
                await self._load(self._choose(of_model, member.selector))
        else:
            self._readmit(route)
            await self._load(self._choose(route, None))

    async def unload(self, model: str) -> None:
        """Answer nobody for a model any more, and give back its memory once nothing of it runs.

        Raises:
            EdgedError: there is no such model, it may not sleep, or it still runs.
        """
        route = self._route(model)
        if members := members_of(route):
            raise InvalidRequestError(
                f'failed to unload "{model}": it is a pipeline and takes no memory of its own; its '
                f"models are {', '.join(sorted({one.model for one in members}))}"
            )
        releases = list(_releases(route))
        if any(release.config.memory.pinned for release in releases):
            raise ConfigError(
                f'failed to unload "{model}": the configuration pins it (models.{model}.memory.'
                "pinned), so it stays in memory"
            )
        await self._manager.settled([release.key for release in releases])
        for release in releases:
            _check_parting(release)
        self._manager.dismiss(releases)
        try:
            for release in releases:
                await self._send_away(release)
        except BaseException:
            self._readmit(route)
            raise
        log.warning('model "%s" was unloaded by an administrator', model)

    async def _load(self, release: ServedRelease) -> None:
        before = release.loads
        if release.is_quarantined:
            raise LoadError(f"failed to load {release.owner}: {release.reason}")
        if release.state is State.FAILED:
            release.retry_at_ns = 0
        elif release.state is State.ASLEEP:
            release.call()
        self._manager.step()
        # Also the others': one release of a model is loaded at a time.
        wanted = self._manager.wanted()
        await self._manager.settled(
            [one.key for one in wanted if one.key.model == release.key.model]
        )
        if release.state is State.READY or (release.answers and release.loads > before):
            return  # it may have been sent away again meanwhile
        raise LoadError(
            f"failed to load {release.owner}: it is {release.state.value}"
            + (f": {release.reason}" if release.reason else "")
        )

    def _readmit(self, route: Route) -> None:
        """Let whoever asks for a model be answered again; what is not in memory sleeps."""
        releases = [one for one in _releases(route) if one.is_dismissed]
        for release in releases:
            if release.state is State.FAILED:
                release.retry_at_ns = 0
            elif release.state is State.ASLEEP:
                release.reason = "its next request loads it"
        self._manager.dismiss(releases, away=False)

    async def _send_away(self, release: ServedRelease) -> None:
        until = time.monotonic() + _LONGEST_S
        # Looked at, not signalled, as in residency.py: telling would cost every request.
        while _is_busy(release) and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(_POLL_S)
        _check_parting(release)
        if _is_busy(release):
            raise DeadlineExceededError(
                f"failed to unload {release.owner}: it still runs after {_LONGEST_S:g} s"
            )
        if not release.is_dismissed:
            return  # a load came after
        release.reason = _WHY
        if release.state is State.FAILED:
            release.retry_at_ns = NEVER_NS
        elif release.state is State.READY:
            home = self._manager.memories.of(release.config)
            home.evict(release, _WHY)
            home.step()

    def _route(self, model: str) -> Route:
        route = self._dataplane.table.routes.get(model)
        if route is None:
            raise ModelNotFoundError(
                f'no model "{model[:64]}" is configured; see which there are: edged models'
            )
        return route

    def _choose(self, route: Route, selector: int | str | None) -> ServedRelease:
        """Who answers, or would be the first to when it can."""
        with contextlib.suppress(EdgedError):
            found = choose_release(route, selector)
            if isinstance(found, ServedRelease):
                return found
        releases = list(_releases(route))
        if not releases:
            raise LoadError(
                f'failed to load "{route.model}": the configuration names no bundle that is there'
            )
        wanted = route.serve if selector is None else route.aliases.get(str(selector), selector)
        served = [one for one in releases if one.number == wanted]
        return max(served or releases, key=lambda one: (one.state in BUSY, one.number))

    async def _on_reload(self, _arguments: dict[str, Any]) -> dict[str, Any]:
        self._reload()
        return {"generation": self._dataplane.table.generation}

    async def _on_load(self, arguments: dict[str, Any]) -> dict[str, Any]:
        await self.load(str(arguments.get("model")))
        return {}

    async def _on_unload(self, arguments: dict[str, Any]) -> dict[str, Any]:
        await self.unload(str(arguments.get("model")))
        return {}

    async def _on_promote(self, arguments: dict[str, Any]) -> dict[str, Any]:
        document = self._manager.rollouts.promote(str(arguments.get("model")))
        await self._manager.rollouts.saved()
        return document

    async def _on_abort(self, arguments: dict[str, Any]) -> dict[str, Any]:
        document = self._manager.rollouts.abort(str(arguments.get("model")))
        await self._manager.rollouts.saved()
        return document

    async def _on_logging(self, arguments: dict[str, Any]) -> dict[str, Any]:
        if (level := arguments.get("level")) is not None:
            self.set_level(level)
        return {"level": self.level, "configured": self._configured}


def _look_anew() -> None:
    """At debug each request has its line, and ways that write none were bound while it had not."""
    Standing.moves += 1


def _is_busy(release: ServedRelease) -> bool:
    """Whether something of it runs or waits, and it is still to be unloaded."""
    return (
        release.is_dismissed
        and release.state is State.READY
        and not release.is_parting
        and bool(release.running or release.backlog.items)
    )


def _check_parting(release: ServedRelease) -> None:
    if release.is_parting or release.loss:
        raise ModelNotReadyError(
            f"failed to unload {release.owner}: its device was lost or is being exchanged",
            retry_after_ns=1_000_000_000,
        )


def _releases(route: Route) -> Iterator[ServedRelease]:
    """Those of a model, the one it falls back to included."""
    known = {release.key: release for release in route.releases.values()}
    if route.fallback is not None:
        known[route.fallback.key] = route.fallback
    for release in known.values():
        if isinstance(release, ServedRelease):
            yield release
