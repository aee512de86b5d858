"""How a release gets into the daemon: first alone in a throw-away process, then for good.

Decides which way a load takes, from the model's ``isolation`` and from what this device learnt of
the release before (``store/probation.py``). Runs on the loader's thread.

    isolation: model            one worker process, for as long as the release is loaded
    isolation: none, known      into the daemon; its trial on this runtime version went well
    isolation: none, new        a trial in a worker of low priority, then into the daemon
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from edged.config.schema import ModelConfig, TrialConfig
from edged.errors import EdgedError, QuarantinedError
from edged.isolation import WorkerCaps, WorkerRuntime
from edged.loading import Costs, Known, Loaded, Stored, load_release
from edged.runtimes.base import Runtime

log = logging.getLogger("edged.serving")

_TRIAL_NICE = 19
"""Everything that serves goes first; on an idle device a trial still takes what it needs."""


class Standings(Protocol):
    """What the loader asks and tells of each release; see ``store/probation.py``."""

    def admit(self, digest: str) -> None:
        """Raise QuarantinedError for a release that may not be loaded."""
        ...

    def begin(self, digest: str, model: str, release: int) -> None:
        """Note a load into this process; raises QuarantinedError after too many deaths."""
        ...

    def release_unharmed(self, digest: str) -> None:
        """The load failed and the daemon lives."""
        ...

    def has_passed(self, digest: str, runtime: str) -> bool:
        """Whether a trial went well on this runtime and version."""
        ...

    def note_passed(self, digest: str, model: str, release: int, runtime: str) -> None:
        """Remember that."""
        ...

    def quarantine(self, digest: str, model: str, release: int, reason: str) -> None:
        """Leave a release out from now on."""
        ...


class Measured(Protocol):
    """What runs of a release took before; see ``store/measured.py``."""

    def get(self, digest: str, setting: str) -> Costs:
        """Empty when it was not measured with this setting."""
        ...

    def note(self, digest: str, setting: str, runs: Costs) -> None:
        """Remember that."""
        ...


@dataclass(frozen=True, slots=True)
class LoadOrder:
    """What to load.

    Args:
        digest: of the manifest.
        stored: the verified bundle.
        config: the model's section of the configuration.
    """

    digest: str
    stored: Stored
    config: ModelConfig


class Loader:
    """Loads releases, the safe way round.

    Args:
        create_runtime: makes a runtime by name.
        standings: what the device learnt of each release.
        trial: how trials are run; may be replaced while loads are under way.
        threads: threads of one run.
        measured: what runs took before.
        device: names what beside the model their time depends on; asked at each load.
    """

    def __init__(
        self,
        create_runtime: Callable[[str], Runtime],
        standings: Standings,
        trial: TrialConfig,
        threads: int,
        *,
        measured: Measured,
        device: Callable[[], str],
    ) -> None:
        self._create_runtime = create_runtime
        self._standings = standings
        self._threads = threads
        self._measured = measured
        self._device = device
        self.trial = trial

    def load(self, order: LoadOrder, on_loaded: Callable[[], None]) -> Loaded:
        """Load a release; ``on_loaded`` is called between loading and warming.

        Raises:
            QuarantinedError: it may not be loaded, or its trial just crashed.
            LoadError: no runtime took it.
            GoldenMismatchError: it gives other numbers than promised.
        """
        self._standings.admit(order.digest)
        if order.config.isolation == "model":
            caps, known = self._serving_caps(order.config), self._known(order)
            loaded = self._load_apart(order, caps, on_loaded, known)
        else:
            loaded = self._load_inside(order, on_loaded)
        self._note(order, loaded)
        return loaded

    def _load_inside(self, order: LoadOrder, on_loaded: Callable[[], None]) -> Loaded:
        if self.trial.enabled:
            self._try(order)
        manifest = order.stored.manifest
        self._standings.begin(order.digest, manifest.name, manifest.release)
        try:
            return load_release(
                order.stored,
                order.config.runtime,
                self._create_runtime,
                on_loaded,
                self._known(order),
            )
        except BaseException:
            self._standings.release_unharmed(order.digest)
            raise

    def _try(self, order: LoadOrder) -> None:
        """The trial: the same load and the same golden samples, where they can hurt nobody."""
        manifest = order.stored.manifest
        runtime = self._runtime_id(order.config.runtime)
        if self._standings.has_passed(order.digest, runtime):
            return
        caps = WorkerCaps(
            threads=self._threads,
            memory_bytes=int(self.trial.memory or _half_of_memory()),
            load_timeout_s=int(self.trial.timeout) / 1e9,
            run_timeout_s=int(self.trial.timeout) / 1e9,
            nice=_TRIAL_NICE,
        )
        # At such a priority nothing true could be measured, and nobody would use it.
        self._load_apart(order, caps, _nothing, lambda _name: ()).session.close()
        self._standings.note_passed(order.digest, manifest.name, manifest.release, runtime)
        log.info('model "%s" release %d passed its trial', manifest.name, manifest.release)

    def _load_apart(
        self, order: LoadOrder, caps: WorkerCaps, on_loaded: Callable[[], None], known: Known
    ) -> Loaded:
        workers: list[WorkerRuntime] = []

        def create(name: str) -> WorkerRuntime:
            workers.append(WorkerRuntime(name, caps))
            return workers[-1]

        try:
            loaded = load_release(order.stored, order.config.runtime, create, on_loaded, known)
        except EdgedError as exc:
            crash = next((worker.crash for worker in workers if worker.crash), "")
            if not crash:
                raise
            raise self._condemned(order, crash, exc.message) from exc
        crash = next((worker.crash for worker in workers if worker.crash), "")
        if crash and order.config.isolation == "none":
            # The first choice died of it and another took it; inside, the first is tried first.
            loaded.session.close()
            raise self._condemned(order, crash, f"a runtime of its list died of {crash}")
        return loaded

    def _condemned(self, order: LoadOrder, crash: str, words: str) -> QuarantinedError:
        manifest = order.stored.manifest
        reason = f"its trial died of {crash} on the golden samples or before"
        self._standings.quarantine(order.digest, manifest.name, manifest.release, reason)
        return QuarantinedError(f"{words}; the release is in quarantine")

    def _serving_caps(self, config: ModelConfig) -> WorkerCaps:
        worker = config.worker
        return WorkerCaps(
            threads=self._threads,
            memory_bytes=int(worker.memory or _half_of_memory()),
            load_timeout_s=int(self.trial.timeout) / 1e9,
            run_timeout_s=int(worker.run_timeout) / 1e9,
        )

    def _known(self, order: LoadOrder) -> Known:
        def known(name: str) -> Costs | None:
            return self._measured.get(order.digest, self._setting(order, name)) or None

        return known

    def _note(self, order: LoadOrder, loaded: Loaded) -> None:
        setting = self._setting(order, loaded.runtime)
        if self._measured.get(order.digest, setting) == loaded.costs:
            return
        self._measured.note(order.digest, setting, loaded.costs)
        manifest, run_ms = order.stored.manifest, loaded.typical_run_ns / 1e6
        log.info(
            'model "%s" release %d was measured: a run takes %.3f ms',
            manifest.name,
            manifest.release,
            run_ms,
        )

    def _setting(self, order: LoadOrder, name: str) -> str:
        """All that the time of a run depends on beside the bytes of the model."""
        apart = " apart" if order.config.isolation == "model" else ""
        threads = f"{self._threads} threads" if self._threads else "a thread a core"
        return f"{self._runtime_id([name])}{apart}, {threads}, {self._device()}"

    def _runtime_id(self, names: Sequence[str]) -> str:
        infos = [self._create_runtime(name).info() for name in names]
        return ", ".join(f"{info.name} {info.version or 'missing'}" for info in infos)


def _half_of_memory() -> int:
    """A cap for whoever names none: what is left keeps the device itself alive."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _nothing() -> None:
    pass
