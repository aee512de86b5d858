"""Engines in the daemon: which releases want one, and what becomes of one that is ready.

Decides from the configuration and from what serves. Nothing of it is made while no model names
TensorRT: a device without a GPU pays neither memory nor a thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edged.config.preference import may_serve
from edged.config.schema import Config, ModelConfig
from edged.device.memory import half_of_memory
from edged.errors import LoadError
from edged.generation.exchange import Exchanges
from edged.serving.choosing.order import LoadOrder
from edged.serving.dataplane import Dataplane
from edged.serving.manager import Desired
from edged.serving.release import ServedRelease
from edged.serving.router import Route

if TYPE_CHECKING:
    from edged.engines.build import FoundryRules, Wanted
    from edged.engines.cache import EngineCache
    from edged.engines.foundry import Foundry
    from edged.engines.process import BuildProcess
    from edged.runtimes.engine import Host

log = logging.getLogger("edged.engines")

FOLDER = "engines"
"""In the state directory."""
RUNTIME = "tensorrt"
Sample = tuple[str, float, tuple[str, ...]]


def this_host() -> Host:
    """What this device is; a child process is asked.

    Raises:
        LoadError: no engine can run here.
    """
    from edged.runtimes.tensorrt_host import this_host as ask  # noqa: PLC0415  (only with a GPU)

    return ask()


class EngineHouse:
    """See above.

    Args:
        state_dir: of the daemon.
        config: the configuration to begin with.
        host: says what this device is.
        strain: says why it should be spared; see ``device/strain.py``.
        start: starts a building process; the real one when None.
    """

    def __init__(
        self,
        state_dir: Path,
        config: Config,
        host: Callable[[], Host] = this_host,
        strain: Callable[[str], str] | None = None,
        start: Callable[..., BuildProcess] | None = None,
    ) -> None:
        self._directory = state_dir / FOLDER
        self._config = config
        self._host = host
        self._strain = strain
        self._start = start
        self._cache: EngineCache | None = None
        self._foundry: Foundry | None = None
        self._exchanges: Exchanges | None = None
        self._dataplane: Dataplane | None = None
        self._is_loading: Callable[[], bool] = _false
        self._bundles: Callable[[], Collection[str]] = tuple
        self._task: asyncio.Task[None] | None = None
        self._again = False

    def dress(self, order: LoadOrder) -> LoadOrder:
        """An order with the engines that the cache has for it; on the loader's thread."""
        section = self._config.engines
        runtimes = order.config.runtime
        if section.build == "never" or (runtimes != "auto" and RUNTIME not in runtimes):
            return order
        from edged.engines.dressed import dress  # noqa: PLC0415
        from edged.engines.sources import wishes  # noqa: PLC0415

        found = wishes(
            order.stored.manifest,
            order.digest,
            order.config.precision,
            order.config.batching.max_batch,
        )
        if not found or not self._directory.is_dir():
            return order
        try:
            host = self._host()
        except LoadError:
            return order  # whoever asks for TensorRT is told by its runtime
        return replace(order, stored=dress(order.stored, found, self.cache(), host))

    def cache(self) -> EngineCache:
        """Where engines are kept."""
        if self._cache is None:
            from edged.engines.cache import EngineCache  # noqa: PLC0415

            self._cache = EngineCache(self._directory, int(self._config.engines.cache_size))
        return self._cache

    def start(
        self,
        exchanges: Exchanges,
        dataplane: Dataplane,
        is_loading: Callable[[], bool],
        bundles: Callable[[], Collection[str]],
    ) -> None:
        """Begin to look after engines; on the event loop, when the first models serve.

        Args:
            exchanges: loads a release anew.
            dataplane: the table.
            is_loading: whether a release is being loaded.
            bundles: digests in the store.
        """
        self._exchanges, self._dataplane = exchanges, dataplane
        self._is_loading, self._bundles = is_loading, bundles
        self.review()

    def review(self) -> None:
        """See what is wanted now; after a start and after each change of the configuration."""
        if self._exchanges is None:
            return
        self._config = self._exchanges.config
        if self._cache is not None:
            self._cache.cap_bytes = int(self._config.engines.cache_size)
        if self._foundry is None and not self._has_buildable():
            return
        if self._task is not None and not self._task.done():
            self._again = True
            return
        self._task = asyncio.get_running_loop().create_task(self._review())
        self._task.add_done_callback(_log_failure)

    def stop(self) -> None:
        """Nothing is built any more."""
        if self._task is not None:
            self._task.cancel()
        if self._foundry is not None:
            self._foundry.stop()
        self._exchanges = None

    async def answer(self, arguments: dict[str, Any]) -> dict[str, Any] | None:
        """CALL ``engines``: what there is; with ``look`` the cache is looked at again first."""
        if arguments.get("look") is True:
            self.review()
        return self.as_dict()

    def as_dict(self) -> dict[str, Any] | None:
        """For ``edged status``; None where no model wants an engine."""
        foundry = self._foundry
        if foundry is None:
            return None
        return {
            "build": self._config.engines.build,
            "problem": foundry.no_host,
            "builds": foundry.as_list(),
            "ended": dict(foundry.ended),
            "refused": dict(self.cache().refused),
        }

    def samples(self) -> Iterator[Sample]:
        """Figures by name, with their labels' values."""
        if self._foundry is None:
            return
        for phase, count in self._foundry.phases().items():
            yield "edged_engine_builds", count, (phase,)
        for outcome, count in self._foundry.ended.items():
            yield "edged_engine_builds_ended", count, (outcome,)
        for kind, count in self.cache().refused.items():
            yield "edged_engine_cache_refused", count, (kind,)

    def _has_buildable(self) -> bool:
        config = self._config
        is_on = config.engines.build != "never"
        return is_on and any(_names_it(model) for model in config.models.values())

    async def _review(self) -> None:
        self._again = True
        while self._again:
            self._again = False
            foundry = self._foundry or self._make_foundry()
            await foundry.want(self._wanted(), self._rules())
            digests = await asyncio.to_thread(self._bundles)
            await asyncio.to_thread(self.cache().collect, digests, foundry.host)

    def _make_foundry(self) -> Foundry:
        from edged.device.strain import read_strain  # noqa: PLC0415
        from edged.engines.bench import EngineBench  # noqa: PLC0415
        from edged.engines.foundry import Foundry  # noqa: PLC0415
        from edged.engines.process import BuildProcess  # noqa: PLC0415

        bench = EngineBench(self._directory, self.cache(), self._start or BuildProcess)
        strain = self._strain or read_strain
        self._foundry = Foundry(bench, self._host, strain, self._swap, self._is_loading)
        return self._foundry

    def _rules(self) -> FoundryRules:
        from edged.engines.build import FoundryRules  # noqa: PLC0415

        section = self._config.engines
        return FoundryRules(
            is_automatic=section.build == "auto",
            memory_bytes=int(section.memory or half_of_memory()),
            timeout_ns=int(section.timeout),
            quiet_ns=int(section.quiet),
        )

    def _wanted(self) -> list[Wanted]:
        """The engines of everything that is asked for, what answers by default first."""
        from edged.engines.bench import Task  # noqa: PLC0415
        from edged.engines.build import Wanted  # noqa: PLC0415
        from edged.engines.sources import wishes  # noqa: PLC0415

        if self._exchanges is None or self._dataplane is None or not self._has_buildable():
            return []
        found = []
        for name, items in self._exchanges.candidate.releases.items():
            config = self._config.models.get(name)
            route = self._dataplane.table.routes.get(name)
            if config is None or route is None or not _names_it(config):
                continue
            for item in asked_for(route, items):
                release = route.releases[item.stored.manifest.release]
                rank, batch = config.precision, config.batching.max_batch
                found += [
                    Wanted(
                        Task(name, item.stored, wish),
                        item.stored.manifest.release,
                        item.digest,
                        is_served=release.runtime == RUNTIME,
                    )
                    for wish in wishes(item.stored.manifest, item.digest, rank, batch)
                    if is_preferred(config, release.runtime)
                ]
        return found

    async def _swap(self, wanted: Wanted) -> str:
        if self._exchanges is None:
            return "the daemon stops"
        config = self._config.models.get(wanted.task.model)

        def problem(release: ServedRelease) -> str:
            if release.runtime == RUNTIME or (config is not None and config.runtime == "auto"):
                return ""  # with auto whatever won against it serves
            why = release.stand_in.why if release.stand_in is not None else release.choice
            return f"{release.runtime} took it again: {why}"

        return await self._exchanges.exchange(wanted.task.model, wanted.digest, problem)


def asked_for(route: Route, items: Sequence[Desired]) -> list[Desired]:
    """Of a model's releases those that answer by default or by an alias, the default first.

    A folder of old bundles is no reason for a day of building.
    """
    default = route.default_release()
    first = default.number if default is not None else 0
    numbers = [first, *(number for number in route.aliases.values() if number != first)]
    by_number = {item.stored.manifest.release: item for item in items}
    return [by_number[number] for number in dict.fromkeys(numbers) if number in by_number]


def is_preferred(config: ModelConfig, serving: str) -> bool:
    """Whether TensorRT would serve instead of what serves, if it had an engine."""
    runtimes = may_serve(config.runtime, config.fallback)
    if runtimes == "auto" or serving not in runtimes:
        return True
    return runtimes.index(RUNTIME) <= runtimes.index(serving)


def _names_it(config: ModelConfig) -> bool:
    runtimes = may_serve(config.runtime, config.fallback)
    return runtimes == "auto" or RUNTIME in runtimes


def _false() -> bool:
    return False


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("engines could not be looked after", exc_info=task.exception())
