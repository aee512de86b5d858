"""Finds out which of a bundle's model files a device loads, and on which runtime.

The operator's word comes first; where there is none, what ran faster here, in a contest that is
held once and remembered for these versions, this device and this bundle. Runs on the loader's
thread.

    runtime: [names]  precision: auto     the precisions race on the first runtime that has several
    runtime: auto     precision: auto     every precision on every runtime that is here
    runtime: auto     precision: int8     one precision, every runtime

``contest.py`` runs, ``choice.py`` judges. What is left out, and why, is told with the release.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

import msgspec

from edged.errors import BundleError, LoadError, QuarantinedError
from edged.runtimes.base import RuntimeInfo
from edged.runtimes.registry import AUTO, names_of
from edged.serving.choosing.choice import Choice, Pair, choose, labels
from edged.serving.choosing.contest import Outcome, hold_contest
from edged.serving.choosing.offer import (
    CreateRuntime,
    Offer,
    by_preference,
    offer,
    setting_of,
    trial_id,
    with_absent,
)
from edged.serving.choosing.order import LoadOrder, precisions, with_several
from edged.store.contests import REASON_CHARS, Held
from edged.workers.isolation import WorkerCaps

_ALONE = "without trials nothing is compared"
_TRIES = 3
"""Starts at which a contest is held in which somebody had no time, no memory or no core; then it is
believed: a runtime that needs minutes for a model would take them at every start."""


class Verdicts(Protocol):
    """What trials came to; see ``store/probation.py``."""

    def has_passed(self, digest: str, runtime: str) -> bool:
        """Whether a trial went well on this runtime and version."""
        ...

    def note_passed(self, digest: str, model: str, release: int, runtime: str) -> None:
        """Remember that."""
        ...

    def quarantine(self, digest: str, model: str, release: int, reason: str) -> None:
        """Leave a release out from now on."""
        ...


class Kept(Protocol):
    """How contests went before; see ``store/contests.py``."""

    def get(self, digest: str, setting: str) -> Held | None:
        """None when none was held with this setting."""
        ...

    def note(self, digest: str, setting: str, value: Held | None) -> None:
        """Remember that."""
        ...


class Chooser:
    """See above.

    Args:
        create_runtime: makes a runtime by name.
        verdicts: what trials came to.
        contests: how they went before.
        threads: of one run.
        device: names what beside the model the time of a run depends on.
    """

    def __init__(
        self,
        create_runtime: CreateRuntime,
        verdicts: Verdicts,
        contests: Kept,
        threads: int,
        device: Callable[[], str],
    ) -> None:
        self._create_runtime = create_runtime
        self._verdicts = verdicts
        self._contests = contests
        self._threads = threads
        self._device = device
        self._held: dict[tuple[str, str], Held] = {}
        """What may come out otherwise at the next start."""
        self._seen: dict[str, RuntimeInfo] = {}
        """What runtimes said of themselves while they were here."""

    def choice(self, order: LoadOrder, caps: WorkerCaps | None) -> Choice:
        """What to load.

        Args:
            order: the release.
            caps: of each process of a contest; None where none may be held.

        Raises:
            LoadError: nothing can be had.
            QuarantinedError: everything crashed.
            BundleError: everything gives other numbers than promised.
        """
        if order.config.runtime == AUTO:
            return self._among_runtimes(order, caps)
        runtimes, wanted = names_of(order.config.runtime), order.config.precision
        several = precisions(order)
        if wanted != "auto":
            return Choice(runtimes, (wanted,), why="the configuration says so", is_strict=True)
        if len(several) < 2:
            return Choice(runtimes)
        if caps is None:
            # Only a process of its own may run what nobody has seen running here.
            return Choice(runtimes, several, why=f"it is listed first; {_ALONE}")
        offers = [
            offer(order.stored.manifest, [self._create_runtime(name).info()], "auto")
            for name in with_several(order)
        ]
        for one in offers:
            if held := self._known(order, one):
                return _by_precision(runtimes, judged(one, held))
        missed: dict[str, str] = {}
        for one in offers:
            outcome = hold_contest(order.stored, one.entries, caps)
            if outcome.proven:
                return _by_precision(runtimes, self._contested(order, one, outcome))
            self._raise_if_hopeless(order, outcome)
            missed |= {**one.absent, **labelled(outcome.missed)}
        raise _nothing_left(order, missed)

    def _among_runtimes(self, order: LoadOrder, caps: WorkerCaps | None) -> Choice:
        manifest, config = order.stored.manifest, order.config
        infos = [self._create_runtime(name).info() for name in names_of(AUTO)]
        here = offer(manifest, infos, config.precision)
        # What was here and is gone is still chosen: that another stands in for it has to be said.
        before = [self._seen.get(info.name, info) if info.problem else info for info in infos]
        self._seen |= {info.name: info for info in infos if not info.problem}
        choice = self._settled(order, offer(manifest, before, config.precision), caps)
        if choice is None:
            choice = self._settled(order, here, caps) or self._held_now(order, here, caps)
        if config.fallback == "deny":
            pairs = tuple(pair for pair in choice.pairs if pair.runtime == choice.runtimes[0])
            choice = replace(choice, runtimes=choice.runtimes[:1], pairs=pairs)
        return replace(choice, is_strict=config.precision != "auto")

    def _settled(self, order: LoadOrder, one: Offer, caps: WorkerCaps | None) -> Choice | None:
        """A choice that needs no contest; None where one has to be held."""
        if not one.entries:
            return None
        if len(one.entries) == 1:
            (pair,) = one.entries
            choice = Choice((pair.runtime,), (pair.precision,), why="nothing else can run it here")
        elif caps is None:
            choice = _of_pairs(by_preference(one), f"it comes first; {_ALONE}")
        elif held := self._known(order, one):
            choice = judged(one, held)
        else:
            return None
        return replace(choice, why=with_absent(choice.why, one))

    def _held_now(self, order: LoadOrder, one: Offer, caps: WorkerCaps | None) -> Choice:
        if not one.entries or caps is None:
            raise _nothing_left(order, one.absent)
        outcome = hold_contest(order.stored, one.entries, caps)
        if not outcome.proven:
            self._raise_if_hopeless(order, outcome)
            raise _nothing_left(order, {**labelled(outcome.missed), **one.absent})
        choice = self._contested(order, one, outcome)
        return replace(choice, why=with_absent(choice.why, one))

    def _known(self, order: LoadOrder, one: Offer) -> Held | None:
        """What a contest came to, while it holds."""
        setting = self._setting(order, one)
        held = self._contests.get(order.digest, setting)
        if held is not None and 0 < held.tries < _TRIES:
            # One start asks once, however often a release comes back into memory.
            held = self._held.get((order.digest, setting))
        if held is None:
            return None
        raced = {Pair(runtime, precision) for runtime, precision, _ in held.raced}
        out = {Pair(runtime, precision) for runtime, precision, _ in held.out}
        is_whole = raced | out == set(one.entries)
        # Figures alone are no verdict: that one was lifted asks for another trial.
        is_passed = all(
            self._verdicts.has_passed(order.digest, trial_id(one, pair)) for pair in raced
        )
        return held if is_whole and is_passed else None

    def _contested(self, order: LoadOrder, one: Offer, outcome: Outcome) -> Choice:
        """What a contest comes to, and what is remembered of it."""
        manifest = order.stored.manifest
        for pair in outcome.proven:
            self._verdicts.note_passed(
                order.digest, manifest.name, manifest.release, trial_id(one, pair)
            )
        is_raced = len(outcome.proven) == 1 or all(pair in outcome.costs for pair in outcome.proven)
        held = Held(
            tuple((*pair, outcome.costs.get(pair, ())) for pair in outcome.proven),
            tuple((*pair, why[:REASON_CHARS]) for pair, why in outcome.missed.items()),
        )
        if not is_raced:
            why = outcome.error.message if outcome.error is not None else ""
            return replace(judged(one, held), why=f"it is listed first; their race failed: {why}")
        setting = self._setting(order, one)
        if not outcome.is_final:
            before = self._contests.get(order.digest, setting)
            held = msgspec.structs.replace(held, tries=1 + (before.tries if before else 0))
            self._held[order.digest, setting] = held
        self._contests.note(order.digest, setting, held)
        return judged(one, held)

    def _raise_if_hopeless(self, order: LoadOrder, outcome: Outcome) -> None:
        if outcome.crash:
            raise condemned(self._verdicts, order, outcome.crash, "every precision of it failed")
        if isinstance(outcome.error, BundleError):
            # It runs and is wrong: another runtime is no remedy for that.
            raise outcome.error

    def _setting(self, order: LoadOrder, one: Offer) -> str:
        return setting_of(one, order.config.precision, self._threads, self._device())


def judged(one: Offer, held: Held) -> Choice:
    """What a contest comes to."""
    costs = {Pair(runtime, precision): runs for runtime, precision, runs in held.raced}
    out = {Pair(runtime, precision): why for runtime, precision, why in held.out}
    pairs, why = tuple(pair for pair in one.entries if pair in costs), ""
    said = labels(one.entries)
    if len(pairs) > 1 and all(costs.values()):
        pairs, why = choose({pair: costs[pair] for pair in pairs}, said)
    missed = {said[pair]: out[pair] for pair in one.entries if pair in out}
    if 0 < held.tries < _TRIES:
        why = "; ".join(filter(None, (why, "to be asked again at the next start")))
    return replace(_of_pairs(pairs, why), missed=missed, is_proven=True)


def _of_pairs(pairs: tuple[Pair, ...], why: str) -> Choice:
    return Choice(tuple(dict.fromkeys(pair.runtime for pair in pairs)), pairs=pairs, why=why)


def _by_precision(runtimes: tuple[str, ...], choice: Choice) -> Choice:
    """The same for all runtimes of a list: the operator has them in that order."""
    order = tuple(pair.precision for pair in choice.pairs)
    return replace(choice, runtimes=runtimes, order=order, pairs=())


def labelled(missed: Mapping[Pair, str]) -> dict[str, str]:
    """The same by what tells the pairs apart."""
    said = labels(missed)
    return {said[pair]: why for pair, why in missed.items()}


def _nothing_left(order: LoadOrder, missed: Mapping[str, str]) -> LoadError:
    words = "; ".join(f"{one}: {why}" for one, why in missed.items())
    manifest = order.stored.manifest
    return LoadError(f'model "{manifest.name}" release {manifest.release}: {words}')


def condemned(verdicts: Verdicts, order: LoadOrder, crash: str, words: str) -> QuarantinedError:
    """Quarantine a release whose trial died of its own doing; returns what to raise."""
    manifest = order.stored.manifest
    reason = f"its trial died of {crash} on the golden samples or before"
    verdicts.quarantine(order.digest, manifest.name, manifest.release, reason)
    return QuarantinedError(f"{words}; the release is in quarantine")
