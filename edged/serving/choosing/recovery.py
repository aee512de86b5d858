"""Keeps every model on the runtime that was asked for, and says aloud where it cannot.

What a load came to is ``preference.py``'s to say. A release whose device is lost under it is loaded
on the next runtime that may serve it, and keeps its queue; ``returning.py`` brings it back. Used
from the event loop only.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Executor
from typing import Protocol, TypeVar

import msgspec

from edged.config.preference import may_serve
from edged.config.schema import ModelConfig
from edged.errors import EdgedError, LoadError, ModelNotReadyError
from edged.loading import Loaded
from edged.runtimes.base import Session
from edged.runtimes.placed import placed_of
from edged.serving.choosing.comeback import Comeback
from edged.serving.choosing.preference import denied, stand_in
from edged.serving.choosing.returning import Owner, Returning, when_idle
from edged.serving.lifecycle import Event, ReleaseKey, State
from edged.serving.release import ServedRelease
from edged.serving.standing import Standing
from edged.serving.trial import LoadOrder
from edged.store.stored import Stored
from edged.telemetry.health import Health

T = TypeVar("T", bound=tuple[str | int, ...])

log = logging.getLogger("edged.serving")

_KEY = "runtime."
"""Of what is told to ``Health``, before a model's name."""


class Steward(Owner, Protocol):
    """The manager, as far as it is needed here."""

    def releases(self) -> list[ServedRelease]:
        """Every release there is."""
        ...


class Recovery:
    """See above.

    Args:
        owner: of the releases.
        thread: where it may take long to find out about a runtime.
        on_change: called after what answers has changed.
    """

    def __init__(self, owner: Steward, thread: Executor, on_change: Callable[[], None]) -> None:
        self._owner = owner
        self._on_change = on_change
        self._comebacks: dict[ReleaseKey, Comeback] = {}
        self.returning = Returning(owner, thread, self._comebacks, self.review)
        self.unclosed: list[Session] = []
        """Of lost devices. Their libraries may end the process when they free what is there."""
        self.losses: Counter[tuple[str, int, str]] = Counter()
        """Devices that were lost during a run: model, release and runtime."""
        self.health: Health | None = None
        """Who is told; the house sets it."""
        self.stood_in: Counter[tuple[str, int, str, str]] = Counter()
        """Loads that ended on another runtime than the first: model, release, that one, the other.
        A repeated load of what stood in already is none."""

    def order(self, release: ServedRelease, stored: Stored) -> LoadOrder:
        """How a release is to be loaded now."""
        config = release.config
        runtimes = may_serve(config.runtime, config.fallback)
        comeback = self._comebacks.get(release.key)
        return LoadOrder(
            release.key.digest,
            stored,
            msgspec.structs.replace(config, runtime=runtimes),
            comeback.avoid(time.monotonic_ns()) if comeback is not None else {},
        )

    def ready(self, release: ServedRelease, loaded: Loaded) -> None:
        """Give a release what was loaded; whoever looked it up before has to do so again.

        How it stands is not told to anybody before ``review``.
        """
        release.is_parting, release.loss = False, ""
        release.loaded(loaded.session, loaded.runtime, loaded.typical_run_ns, loaded.costs)
        release.precision, release.choice = loaded.precision, loaded.why
        release.placed = placed_of(loaded.session)
        Standing.moves += 1
        now_ns = time.monotonic_ns()
        before = release.stand_in
        release.stand_in = after = stand_in(loaded, before, time.time(), now_ns)
        if after is not None:
            self._comebacks.setdefault(release.key, Comeback()).waits(now_ns)
            self.returning.arm()
        elif release.key in self._comebacks:
            self._comebacks[release.key].arrived()
        if after is not None and (before is None or before.since_ns != after.since_ns):
            key = release.key.model, release.number, after.wanted, after.serves
            self.stood_in[key] += 1

    def explain(self, release: ServedRelease, error: EdgedError) -> str:
        """Why a load failed, and what to do."""
        return _advised(release, error.message) if isinstance(error, LoadError) else error.message

    def lost(self, release: ServedRelease) -> None:
        """The device of a session is gone; what still runs on it comes to its end first."""
        when_idle(release, self._give_up)

    def _give_up(self, release: ServedRelease) -> None:
        loss = release.loss
        if not loss or release.session is None or self._owner.find(release.key) is not release:
            return  # its process died before that was heard, and it is loaded again as it is
        if release.state is not State.READY:  # it drains: whoever replaced it is to be asked
            self.lay_down(release)
            release.fail_waiting(ModelNotReadyError(f"{release.owner} lost its device: ask again"))
            return
        now_ns, runtime, is_apart = time.monotonic_ns(), release.runtime, release.remote is not None
        why = f"its device was lost while running: {loss}"
        comeback = self._comebacks.setdefault(release.key, Comeback())
        until_ns = comeback.lost(runtime, why, now_ns, is_apart=is_apart)
        self.losses[release.key.model, release.number, runtime] += 1
        log.error("%s on %s: %s", release.owner, runtime, why)
        if release.remote is not None and (lodger := release.remote.lodger) is not None:
            # To whoever shares the process the device is lost as well, also who has not asked yet.
            lodger.condemn("lost its device and was ended")
        self.lay_down(release)
        if _has_another(release.config, runtime) or until_ns <= now_ns:
            release.move(Event.EVICT, why)
            release.call()
        else:
            why = _advised(release, why)
            release.retry_at_ns = until_ns
            release.move(Event.DIE, why)
            words = f"{release.owner} is not ready: {why}"
            release.fail_waiting(ModelNotReadyError(words, retry_after_ns=until_ns - now_ns))
        self._owner.memories.gone(release)
        self._on_change()
        self._owner.step()

    def lay_down(self, release: ServedRelease) -> Session | None:
        """Let a release give up its session.

        Returns:
            What is to be closed; None where that is done, or nobody may do it.
        """
        loss, release.loss = release.loss, ""
        session = release.lay_down()
        if session is None or not loss:
            return session
        self.unclosed.append(session)
        return None

    def figures(self) -> Iterator[tuple[str, int, tuple[str, ...]]]:
        """Name, value and labels of each."""
        for release in self._owner.releases():
            of = release.key.model, str(release.number)
            if (found := release.stand_in) is not None:
                yield "edged_release_runtime_fallback", 1, (*of, found.wanted, found.serves)
            if release.placed is not None:
                yield "edged_release_cpu_nodes", release.placed.cpu_nodes, of
        for (model, number, wanted, serves), count in self.stood_in.items():
            yield "edged_runtime_fallbacks", count, (model, str(number), wanted, serves)
        for (model, number, runtime), count in self.losses.items():
            yield "edged_device_losses", count, (model, str(number), runtime)
        for (model, number, outcome), count in self.returning.ended.items():
            yield "edged_runtime_returns", count, (model, str(number), outcome)

    def look_now(self) -> None:
        """Somebody has mended something: do not wait for the next look."""
        now_ns = time.monotonic_ns()
        for comeback in self._comebacks.values():
            comeback.hurry(now_ns)
        self.returning.arm()

    def review(self) -> None:
        """Bring the list of degradations up to date, and forget who is not there any more."""
        for key in [key for key in self._comebacks if self._owner.find(key) is None]:
            del self._comebacks[key]
        known = {(release.key.model, release.number) for release in self._owner.releases()}
        _forget(self.stood_in, known)
        _forget(self.losses, known)
        _forget(self.returning.ended, known)
        if self.health is None:
            return
        words: dict[str, str] = {}
        for release in self._owner.releases():
            found = release.stand_in
            if found is not None and release.answers:
                line = (
                    f"release {release.number} serves on {found.serves} instead of "
                    f"{found.wanted}: {found.why}"
                )
                name = _KEY + release.key.model
                words[name] = f"{words[name]}; {line}" if name in words else line
        for name, line in words.items():
            self.health.degrade(name, line)
        for name in self.health.degradations():
            if name.startswith(_KEY) and name not in words:
                self.health.restore(name)


def _forget(tally: Counter[T], known: Collection[tuple[str, int]]) -> None:
    """Drop the counts of releases that are not there any more."""
    for key in [key for key in tally if key[:2] not in known]:
        del tally[key]


def _has_another(config: ModelConfig, runtime: str) -> bool:
    """Whether a model may be served on another runtime than this one."""
    names = may_serve(config.runtime, config.fallback)
    if isinstance(names, str):  # a choice by measuring: all that are here are in it
        return config.fallback == "allow"
    return any(name != runtime for name in names)


def _advised(release: ServedRelease, words: str) -> str:
    """Why it does not serve, and what to do where others were not let."""
    config = release.config
    if config.fallback == "allow":
        return words
    if isinstance(config.runtime, str):
        return f"{words}; no other runtime may stand in (fallback: deny)"
    return denied(words, release.key.model, config.runtime) if len(config.runtime) > 1 else words
