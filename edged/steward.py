"""What administrators ask of the daemon while it runs: loads, unloads, the log's level, a reload.

What should be there is the configuration's word and stays it: nothing here writes it, and nothing
is remembered after a restart. A load only brings back what sleeps or failed; an unload only sends
to sleep, until the next request or load.
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
from edged.protocol.oip_settings import LEVELS
from edged.serving.dataplane import Dataplane
from edged.serving.lifecycle import BUSY, State
from edged.serving.manager import Manager
from edged.serving.release import ServedRelease
from edged.serving.router import Route, choose_release
from edged.status import members_of
from edged.telemetry import log as logging_setup
from edged.transports.native_door import Call

log = logging.getLogger("edged.daemon")

_LONGEST_S = 30.0
"""An unload waits so long for what runs; meanwhile nothing new of the model begins."""
_POLL_S = 0.005
_WHY = "an administrator sent it to sleep; its next request loads it"


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
        }

    def follow(self, config: Config) -> None:
        """Write the log as configured, where that has changed; else as it was last asked for."""
        if config.log.level != self._configured:
            self._configured = self.level = config.log.level
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
                await self._load(self._choose(self._route(member.model), member.selector))
        else:
            await self._load(self._choose(route, None))

    async def unload(self, model: str) -> None:
        """Send all releases of a model to sleep, once nothing of them runs.

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
            if release.state is State.READY:
                await self._send_to_sleep(release)

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

    async def _send_to_sleep(self, release: ServedRelease) -> None:
        if release.is_parting:
            raise ModelNotReadyError(
                f"failed to unload {release.owner}: its device was lost or is being exchanged",
                retry_after_ns=1_000_000_000,
            )
        until = time.monotonic() + _LONGEST_S
        release.part()
        try:
            # Looked at, not signalled, as in residency.py: telling would cost every request.
            while (  # noqa: ASYNC110
                release.state is State.READY and release.running and time.monotonic() < until
            ):
                await asyncio.sleep(_POLL_S)
            if release.state is not State.READY or release.loss:
                return
            if release.running:
                raise DeadlineExceededError(
                    f"failed to unload {release.owner}: it still runs after {_LONGEST_S:g} s"
                )
            home = self._manager.memories.of(release.config)
            home.evict(release, _WHY)
            home.step()
        finally:
            if release.state is State.READY and not release.loss:
                release.is_parting = False
                release.go_on()

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

    async def _on_logging(self, arguments: dict[str, Any]) -> dict[str, Any]:
        if (level := arguments.get("level")) is not None:
            self.set_level(level)
        return {"level": self.level, "configured": self._configured}


def _releases(route: Route) -> Iterator[ServedRelease]:
    """Those of a model, the one it falls back to included."""
    known = {release.key: release for release in route.releases.values()}
    if route.fallback is not None:
        known[route.fallback.key] = route.fallback
    for release in known.values():
        if isinstance(release, ServedRelease):
            yield release
