"""How a release gets into the daemon: first alone in a throw-away process, then for good.

Decides which way a load takes, from the model's ``isolation`` and from what this device learnt of
the release before (``store/probation.py``). Runs on the loader's thread.

    isolation: model            one worker process, for as long as the release is loaded
    isolation: device           the worker of its device; before, as for none, a trial: it has
                                neighbours there
    isolation: none, known      into the daemon; its trial on this runtime version went well
    isolation: none, new        a trial in a worker of low priority, then into the daemon

On ONNX Runtime that worker is a copy of a process that has imported it (``workers/forked.py``): a
hundred new releases, as after an update of the runtime, wait for the import once.

Where a bundle has several precisions, or a device chooses among runtimes, each has its trial, and
they are run side by side there: what wins is loaded, and is remembered with the figures
(``chooser.py``, ``store/contests.py``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

from edged.config.schema import ModelConfig, TrialConfig
from edged.costs import Costs
from edged.device.memory import half_of_memory
from edged.errors import EdgedError
from edged.loading import Known, Loaded, load_release
from edged.runtimes.base import Runtime
from edged.runtimes.registry import AUTO, device_of, home_of
from edged.serving.choosing.choice import Choice, idle_engines
from edged.serving.choosing.chooser import Chooser, condemned
from edged.serving.choosing.chooser import Kept as Contests
from edged.serving.choosing.offer import runtime_ids, told_threads
from edged.serving.choosing.order import LoadOrder, precisions
from edged.serving.choosing.preference import Avoiding
from edged.serving.inside import inside
from edged.serving.memory.footprint import Kept as Footprints
from edged.serving.memory.footprint import Prepared, Sizes, Sizing
from edged.serving.memory.text_memory import with_texts
from edged.serving.warmup import warmed
from edged.workers.isolation import Enter, SharedWorkers, WorkerCaps, WorkerRuntime, enter_for

__all__ = ["LoadOrder", "Loader", "Measured", "Standings"]

log = logging.getLogger("edged.serving")

TRIAL_NICE = 19
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
        contests: how runtimes and precisions did side by side before.
        enter_trial: how a trial on a runtime, by its name, gets its process; None for one that is
            started for it. See ``workers/forked.py``.
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
        footprints: Footprints,
        contests: Contests,
        enter_trial: Callable[[str], Enter | None] = lambda _: None,
    ) -> None:
        self._create_runtime = create_runtime
        self._standings = standings
        self._enter_trial = enter_trial
        self._threads = threads
        self._measured = measured
        self._device = device
        self._sizes = Sizes(create_runtime, footprints)
        self._chooser = Chooser(create_runtime, standings, contests, threads, device)
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
        bound = self._sizes.bound(self._sizing(order, choice))
        return Prepared(with_texts(bound, order.stored, order.config), is_proven)

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
            model, device = order.stored.manifest.name, device_of(choice.runtimes[0])
            enter = enter_for(order.config, model, order.digest, self.workers, device)
            loaded = self._load_apart(order, caps, on_loaded, known, choice, enter=lambda _: enter)
        else:
            loaded = self._load_inside(order, on_loaded, choice)
        footprint = self._sizes.loaded(self._sizing(order, choice), watch, loaded.session)
        footprint = with_texts(footprint, order.stored, order.config)
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
                choice.runtimes,
                inside(self._create_runtime, order, self.workers, self._serving_caps(order.config)),
                on_loaded,
                self._known(order),
                pick=choice.pick,
            )
            return warmed(loaded, order.stored, order.config)
        except BaseException:
            self._standings.release_unharmed(order.digest)
            raise

    def _try_first(self, order: LoadOrder, choice: Choice) -> None:
        if self.trial.enabled and not choice.is_proven:
            self._try(order, choice)

    def _try(self, order: LoadOrder, choice: Choice) -> None:
        """The trial: the same load and the same golden samples, where they can hurt nobody."""
        manifest = order.stored.manifest
        runtime = runtime_ids(self._create_runtime, choice.runtimes)
        if choice.is_strict and len(precisions(order)) > 1:
            runtime = f"{runtime}, {choice.first[1]}"
        if self._standings.has_passed(order.digest, runtime):
            return
        # At such a priority nothing true could be measured, and nobody would use it.
        nothing: Known = lambda _name, _precision: ()  # noqa: E731
        caps, enter = self._trial_caps(), self._enter_trial
        session = self._load_apart(order, caps, _nothing, nothing, choice, enter=enter).session
        self._sizes.tried(self._sizing(order, choice), session)
        session.close()
        self._standings.note_passed(order.digest, manifest.name, manifest.release, runtime)
        log.info('model "%s" release %d passed its trial', manifest.name, manifest.release)

    def _choice(self, order: LoadOrder) -> Choice:
        may_race = self.trial.enabled or order.config.isolation != "none"
        return self._chooser.choice(order, self._trial_caps() if may_race else None)

    def _explained(self, order: LoadOrder, loaded: Loaded, choice: Choice) -> Loaded:
        """Say what it is, and why; nothing where there was nothing to choose."""
        manifest, is_auto = order.stored.manifest, order.config.runtime == AUTO
        idle, missed, why = idle_engines(manifest, loaded, order.config.runtime), {}, ""
        if is_auto or len(precisions(order)) > 1:
            missed = {**choice.missed, **_not_had(loaded, choice)}
            why = "; ".join(f"{one} is out: {reason}" for one, reason in missed.items())
            if loaded.precision == choice.first[1] or not choice.first[1]:
                why = "; ".join(filter(None, (choice.why, why)))
        elif not idle:
            return loaded
        why = "; ".join(filter(None, (why, idle)))
        level = logging.WARNING if missed or idle else logging.INFO
        words = 'model "%s" release %d serves in %s: %s'
        what = f"{loaded.precision} on {loaded.runtime}" if is_auto else loaded.precision
        log.log(level, words, manifest.name, manifest.release, what, why)
        return replace(loaded, why=why)

    def _load_apart(
        self,
        order: LoadOrder,
        caps: WorkerCaps,
        on_loaded: Callable[[], None],
        known: Known,
        choice: Choice,
        *,
        enter: Callable[[str], Enter | None],
    ) -> Loaded:
        workers: list[WorkerRuntime] = []

        def create(name: str) -> WorkerRuntime:
            workers.append(WorkerRuntime(name, caps, enter(name)))
            return workers[-1]

        able = Avoiding(create, order.avoid)
        try:
            loaded = load_release(
                order.stored, choice.runtimes, able, on_loaded, known, pick=choice.pick
            )
            warmed(loaded, order.stored, order.config)
        except EdgedError as exc:
            crash = next((worker.crash for worker in workers if worker.crash), "")
            if not crash:
                raise
            raise condemned(self._standings, order, crash, exc.message) from exc
        crash = next((worker.crash for worker in workers if worker.crash), "")
        if crash and order.config.isolation == "none":
            # The first choice died of it and another took it; inside, the first is tried first.
            loaded.session.close()
            words = f"a runtime of its list died of {crash}"
            raise condemned(self._standings, order, crash, words)
        return loaded

    def _trial_caps(self) -> WorkerCaps:
        return WorkerCaps(
            threads=self._threads,
            memory_bytes=int(self.trial.memory or half_of_memory()),
            load_timeout_s=int(self.trial.timeout) / 1e9,
            run_timeout_s=int(self.trial.timeout) / 1e9,
            nice=TRIAL_NICE,
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
        which = f" {precision}" if len(precisions(order)) > 1 else ""
        apart = " apart" if order.config.isolation != "none" else ""
        runtime = f"{runtime_ids(self._create_runtime, [name])}{which}{apart}"
        return f"{runtime}, {told_threads(self._threads)}, {self._device()}"

    def _sizing(self, order: LoadOrder, choice: Choice) -> Sizing:
        """What its size depends on."""
        config = order.config
        apart = " apart" if config.isolation == "model" else ""
        names = runtime_ids(self._create_runtime, choice.runtimes)
        setting = f"{names} {config.precision}{apart}, {self._threads} threads"
        one = Sizing(order.digest, setting, order.stored, choice.runtimes, choice.pick, bool(apart))
        return one._replace(is_on_host=home_of(config.runtime) == "cpu")


def _not_had(loaded: Loaded, choice: Choice) -> Mapping[str, str]:
    """What was chosen before it and did not load, by its name."""
    if not choice.pairs:
        return loaded.missed
    if loaded.skipped:
        return {one.runtime: one.why for one in loaded.skipped}
    return {f"{one} on {loaded.runtime}": why for one, why in loaded.missed.items()}


def _nothing() -> None:
    pass
