"""How a release gets into the daemon: first alone in a throw-away process, then for good.

Decides which way a load takes, from the model's ``isolation`` and from what this device learnt of
the release before (``store/probation.py``). Runs on the loader's thread.

    isolation: model            one worker process, for as long as the release is loaded
    isolation: device           the worker of its device; before, as for none, a trial: it has
                                neighbours there
    isolation: none, known      into the daemon; its trial on this runtime version went well
    isolation: none, new        a trial in a worker of low priority, then into the daemon

Where a bundle has several precisions, each has its trial, and they are run side by side there: what
wins is loaded, and is remembered with the figures (``store/measured.py``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from edged.config.schema import ModelConfig, TrialConfig
from edged.costs import Costs
from edged.device.memory import half_of_memory
from edged.errors import BundleError, EdgedError, LoadError, QuarantinedError
from edged.isolation import Enter, SharedWorkers, WorkerCaps, WorkerRuntime, enter_for
from edged.loading import Known, Loaded, Stored, entries_for, find_entries, load_release
from edged.runtimes.base import Runtime
from edged.runtimes.registry import device_of
from edged.serving.choice import Choice, choose, idle_engines
from edged.serving.contest import Outcome, hold_contest
from edged.serving.footprint import Kept, Prepared, Sizes, Sizing
from edged.serving.preference import Avoiding
from edged.serving.warmup import warmed

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
        avoid: runtimes that are to be left out, and why.
    """

    digest: str
    stored: Stored
    config: ModelConfig
    avoid: Mapping[str, str] = field(default_factory=dict)


class Loader:
    """Loads releases, the safe way round.

    Args:
        create_runtime: makes a runtime by name.
        standings: what the device learnt of each release.
        trial: how trials are run; may be replaced while loads are under way.
        threads: threads of one run.
        measured: what runs took before.
        device: names what beside the model their time depends on; asked at each load.
        footprints: what memory releases took before.
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
        footprints: Kept,
    ) -> None:
        self._create_runtime = create_runtime
        self._standings = standings
        self._threads = threads
        self._measured = measured
        self._device = device
        self._sizes = Sizes(create_runtime, footprints)
        self.trial = trial
        self.workers = SharedWorkers(half_of_memory())

    def prepare(self, order: LoadOrder) -> Prepared:
        """Look at a release where that harms nobody: its trial if it needs one, and its size.

        Raises:
            EdgedError: as for ``load``.
        """
        self._standings.admit(order.digest)
        choice = self._choice(order)
        is_apart = order.config.isolation == "model"
        if not is_apart:
            self._try_first(order, choice)
        is_proven = self.trial.enabled and not is_apart
        return Prepared(self._sizes.bound(self._sizing(order, choice)), is_proven)

    def load(self, order: LoadOrder, on_loaded: Callable[[], None]) -> Loaded:
        """Load a release; ``on_loaded`` is called between loading and warming.

        Raises:
            QuarantinedError: it may not be loaded, or its trial just crashed.
            LoadError: no runtime took it.
            GoldenMismatchError: it gives other numbers than promised.
        """
        self._standings.admit(order.digest)
        choice = self._choice(order)
        watch = self._sizes.watch()
        if order.config.isolation != "none":
            if order.config.isolation == "device":
                self._try_first(order, choice)
            caps, known = self._serving_caps(order.config), self._known(order)
            enter = enter_for(order.config, order.stored.manifest.name, order.digest, self.workers)
            loaded = self._load_apart(order, caps, on_loaded, known, choice, enter=enter)
        else:
            loaded = self._load_inside(order, on_loaded, choice)
        footprint = self._sizes.loaded(self._sizing(order, choice), watch, loaded.session)
        self._note(order, loaded)
        return replace(self._explained(order, loaded, choice), footprint=footprint)

    def _load_inside(
        self, order: LoadOrder, on_loaded: Callable[[], None], choice: Choice
    ) -> Loaded:
        self._try_first(order, choice)
        manifest = order.stored.manifest
        self._standings.begin(order.digest, manifest.name, manifest.release)
        try:
            loaded = load_release(
                order.stored,
                order.config.runtime,
                Avoiding(self._create_runtime, order.avoid),
                on_loaded,
                self._known(order),
                pick=choice.pick,
            )
            return warmed(loaded, order.stored, order.config)
        except BaseException:
            self._standings.release_unharmed(order.digest)
            raise

    def _try_first(self, order: LoadOrder, choice: Choice) -> None:
        if self.trial.enabled and (choice.is_strict or len(_several(order)) < 2):
            self._try(order, choice)

    def _try(self, order: LoadOrder, choice: Choice) -> None:
        """The trial: the same load and the same golden samples, where they can hurt nobody."""
        manifest = order.stored.manifest
        runtime = self._trial_id(order, choice.order[0] if choice.is_strict else "")
        if self._standings.has_passed(order.digest, runtime):
            return
        # At such a priority nothing true could be measured, and nobody would use it.
        nothing: Known = lambda _name, _precision: ()  # noqa: E731
        session = self._load_apart(order, self._trial_caps(), _nothing, nothing, choice).session
        self._sizes.tried(self._sizing(order, choice), session)
        session.close()
        self._standings.note_passed(order.digest, manifest.name, manifest.release, runtime)
        log.info('model "%s" release %d passed its trial', manifest.name, manifest.release)

    def _choice(self, order: LoadOrder) -> Choice:
        """Which of several precisions to load: the operator's, or what is faster here."""
        wanted, several = order.config.precision, _several(order)
        if wanted != "auto":
            return Choice((wanted,), "the configuration says so", is_strict=True)
        if len(several) < 2:
            return Choice()
        if not self.trial.enabled and order.config.isolation == "none":
            # Only a process of its own may run what nobody has seen running here.
            return Choice(several, "it is listed first; without trials nothing is compared")
        runtimes = _runtimes(order)
        for name in runtimes:
            costs = {one: self._raced(order, name, one) for one in several}
            if all(costs.values()) and all(self._has_passed(order, one) for one in several):
                return choose(costs)
        for name in runtimes:
            entries = entries_for(order.stored.manifest, name)
            outcome = hold_contest(order.stored, name, entries, self._trial_caps())
            if outcome.proven:
                return self._contested(order, name, outcome)
            if outcome.crash:
                raise self._condemned(order, outcome.crash, "every precision of it failed")
            if isinstance(outcome.error, BundleError):
                # It runs and is wrong: another runtime is no remedy for that.
                raise outcome.error
        words = "; ".join(f"{one}: {why}" for one, why in outcome.missed.items())
        manifest = order.stored.manifest
        raise LoadError(f'model "{manifest.name}" release {manifest.release}: {words}')

    def _contested(self, order: LoadOrder, name: str, outcome: Outcome) -> Choice:
        """What a contest comes to, and what is remembered of it."""
        manifest = order.stored.manifest
        for one in outcome.proven:
            self._standings.note_passed(
                order.digest, manifest.name, manifest.release, self._trial_id(order, one)
            )
        costs = {one: outcome.costs[one] for one in outcome.proven if one in outcome.costs}
        if len(costs) < 2:
            # One alone needs no reason but what is wrong with the others.
            raced = len(outcome.proven) > 1 and outcome.error
            why = f"it is listed first; their race failed: {raced.message}" if raced else ""
            return Choice(outcome.proven, why, outcome.missed)
        for one, runs in costs.items():
            self._measured.note(order.digest, self._raced_as(order, name, one), runs)
        return replace(choose(costs), missed=outcome.missed)

    def _explained(self, order: LoadOrder, loaded: Loaded, choice: Choice) -> Loaded:
        """Say which precision it is, and why; nothing where there was nothing to choose."""
        manifest = order.stored.manifest
        idle, missed, why = idle_engines(manifest, loaded.runtime), {}, ""
        if len(_several(order)) > 1:
            missed = {**choice.missed, **loaded.missed}
            why = "; ".join(f"{one} is out: {reason}" for one, reason in missed.items())
            if not choice.order or loaded.precision == choice.order[0]:
                why = "; ".join(filter(None, (choice.why, why)))
        elif not idle:
            return loaded
        why = "; ".join(filter(None, (why, idle)))
        level = logging.WARNING if missed or idle else logging.INFO
        words = 'model "%s" release %d serves in %s: %s'
        log.log(level, words, manifest.name, manifest.release, loaded.precision, why)
        return replace(loaded, why=why)

    def _has_passed(self, order: LoadOrder, precision: str) -> bool:
        return self._standings.has_passed(order.digest, self._trial_id(order, precision))

    def _trial_id(self, order: LoadOrder, precision: str) -> str:
        """What a trial was passed on; names the precision where there are several."""
        runtime = self._runtime_id(order.config.runtime)
        return f"{runtime}, {precision}" if precision and len(_several(order)) > 1 else runtime

    def _raced(self, order: LoadOrder, name: str, precision: str) -> Costs:
        return self._measured.get(order.digest, self._raced_as(order, name, precision))

    def _raced_as(self, order: LoadOrder, name: str, precision: str) -> str:
        return f"race of {precision}: {self._setting(order, name, '')}"

    def _load_apart(
        self,
        order: LoadOrder,
        caps: WorkerCaps,
        on_loaded: Callable[[], None],
        known: Known,
        choice: Choice,
        *,
        enter: Enter | None = None,
    ) -> Loaded:
        workers: list[WorkerRuntime] = []

        def create(name: str) -> WorkerRuntime:
            workers.append(WorkerRuntime(name, caps, enter))
            return workers[-1]

        able = Avoiding(create, order.avoid)
        try:
            loaded = load_release(
                order.stored, order.config.runtime, able, on_loaded, known, pick=choice.pick
            )
            warmed(loaded, order.stored, order.config)
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

    def _trial_caps(self) -> WorkerCaps:
        return WorkerCaps(
            threads=self._threads,
            memory_bytes=int(self.trial.memory or half_of_memory()),
            load_timeout_s=int(self.trial.timeout) / 1e9,
            run_timeout_s=int(self.trial.timeout) / 1e9,
            nice=_TRIAL_NICE,
        )

    def _serving_caps(self, config: ModelConfig) -> WorkerCaps:
        worker = config.worker
        return WorkerCaps(
            threads=self._threads,
            memory_bytes=int(worker.memory or half_of_memory()),
            load_timeout_s=int(self.trial.timeout) / 1e9,
            run_timeout_s=int(worker.run_timeout) / 1e9,
            ways=max(1, config.batching.instances),
        )

    def _known(self, order: LoadOrder) -> Known:
        def known(name: str, precision: str) -> Costs | None:
            return self._measured.get(order.digest, self._setting(order, name, precision)) or None

        return known

    def _note(self, order: LoadOrder, loaded: Loaded) -> None:
        setting = self._setting(order, loaded.runtime, loaded.precision)
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

    def _setting(self, order: LoadOrder, name: str, precision: str) -> str:
        """All that the time of a run depends on beside the bytes of the model."""
        which = f" {precision}" if precision and len(_several(order)) > 1 else ""
        apart = " apart" if order.config.isolation != "none" else ""
        threads = f"{self._threads} threads" if self._threads else "a thread a core"
        return f"{self._runtime_id([name])}{which}{apart}, {threads}, {self._device()}"

    def _sizing(self, order: LoadOrder, choice: Choice) -> Sizing:
        """What its size depends on."""
        config = order.config
        apart = " apart" if config.isolation == "model" else ""
        names = self._runtime_id(config.runtime)
        setting = f"{names} {config.precision}{apart}, {self._threads} threads"
        one = Sizing(order.digest, setting, order.stored, config.runtime, choice.pick, bool(apart))
        return one._replace(is_on_host=device_of(config.runtime[0]) == "cpu")

    def _runtime_id(self, names: Sequence[str]) -> str:
        infos = [self._create_runtime(name).info() for name in names]
        return ", ".join(f"{info.name} {info.version or 'missing'}" for info in infos)


def _runtimes(order: LoadOrder) -> list[str]:
    """The runtimes of the model's list that the bundle has several precisions for."""
    manifest = order.stored.manifest
    return [name for name in order.config.runtime if len(find_entries(manifest, name)) > 1]


def _several(order: LoadOrder) -> tuple[str, ...]:
    """The precisions to choose from, as the bundle lists them; empty where there is no choice."""
    for name in _runtimes(order)[:1]:
        entries = entries_for(order.stored.manifest, name)
        return tuple(dict.fromkeys(entry.precision for entry in entries))
    return ()


def _nothing() -> None:
    pass
