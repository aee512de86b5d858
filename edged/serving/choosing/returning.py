"""Brings a release back to the runtime that it wants, beside the one that stands in meanwhile.

When to look and to try is ``comeback.py``'s decision. A look asks the runtimes themselves, on the
loader's thread. A try is a load like any other, in the line of the device's memory, under a key of
its own; what comes of it replaces the session that serves between two runs, so that requests wait
for one run at most and none fails. Used from the event loop only.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import Protocol

import msgspec

from edged.errors import EdgedError
from edged.loading import Loaded, Skipped
from edged.runtimes.registry import create_runtime
from edged.serving.choosing.comeback import Comeback
from edged.serving.lifecycle import Event, ReleaseKey, State
from edged.serving.memory.load_line import Rank
from edged.serving.memory.memories import Memories
from edged.serving.memory.residency import Ends, Entry
from edged.serving.release import ServedRelease
from edged.serving.scheduling.alarm import Alarm
from edged.serving.trial import LoadOrder
from edged.store.stored import Stored

log = logging.getLogger("edged.serving")

_POLL_S = 0.005
"""While runs come to their end; they do not tell, for that would cost every request."""
_LATER_NS = 1_000_000
"""Timers may ring a little early, and a look would then find nothing due."""


class Owner(Protocol):
    """The manager, as far as it is needed here."""

    memories: Memories

    def find(self, key: ReleaseKey) -> ServedRelease | None:
        """The release of a key, while there is one."""
        ...

    def stored_of(self, release: ServedRelease) -> Stored:
        """Its bundle."""
        ...

    def took(self, release: ServedRelease, loaded: Loaded) -> None:
        """It has another session now, and serves."""
        ...

    def step(self) -> None:
        """Look what is to be done."""
        ...


def problem_of(name: str) -> str:
    """Why a runtime cannot be used now; looks anew at what is installed."""
    importlib.invalidate_caches()
    return create_runtime(name, threads=1).info().problem


class Returning:
    """See above.

    Args:
        owner: of the releases.
        thread: where it may take long to find out about a runtime.
        comebacks: what is remembered of each.
        on_change: called when it is to be said anew why a release is not where it wants to be.
    """

    def __init__(
        self,
        owner: Owner,
        thread: Executor,
        comebacks: dict[ReleaseKey, Comeback],
        on_change: Callable[[], None],
    ) -> None:
        self._owner = owner
        self._thread = thread
        self._comebacks = comebacks
        self._on_change = on_change
        self._alarm = Alarm(self._look)
        self._under_way: set[ReleaseKey] = set()
        self._trying: dict[ReleaseKey, ReleaseKey] = {}
        """By the key of a try, the key of whom it is for."""
        self._is_stopped = False
        self.problem_of = problem_of
        self.ended: Counter[tuple[str, int, str]] = Counter()
        """Tries by model, release and how they ended: ``back`` or ``failed``."""

    def arm(self) -> None:
        """Look again when the next look is due."""
        due = [one.next_ns for one in self._comebacks.values() if one.next_ns]
        if due and not self._is_stopped:
            self._alarm.arm(min(due) + _LATER_NS)

    def stop(self) -> None:
        """Look no more."""
        self._is_stopped = True
        self._alarm.cancel()

    def ends(self, ends: Ends) -> Ends:
        """Who is told how loads ended; tries are heard here."""

        def ready(release: ServedRelease, loaded: Loaded) -> None:
            if release.key in self._trying:
                self._came(release, loaded)
            else:
                ends.ready(release, loaded)

        def asleep(release: ServedRelease, reason: str) -> None:
            if release.key in self._trying:
                self._failed(release, f"there is no room for it beside what serves ({reason})")
            else:
                ends.asleep(release, reason)

        def failed(release: ServedRelease, error: BaseException) -> None:
            if release.key in self._trying:
                words = error.message if isinstance(error, EdgedError) else repr(error)
                self._failed(release, words)
            else:
                ends.failed(release, error)

        return Ends(ready, asleep, failed)

    def _look(self) -> None:
        """Ask the runtimes that are due."""
        now_ns = time.monotonic_ns()
        for key, comeback in self._comebacks.items():
            if not comeback.next_ns or comeback.next_ns > now_ns or key in self._under_way:
                continue
            release = self._owner.find(key)
            wanted = _wanted(release) if release is not None else ()
            if not wanted:
                comeback.next_ns = 0  # whoever loads it again says what it lacks
                continue
            comeback.next_ns = 0
            self._under_way.add(key)
            loop = asyncio.get_running_loop()
            future = loop.run_in_executor(self._thread, self._usable, wanted)
            future.add_done_callback(functools.partial(self._looked, key))
        self.arm()

    def _usable(self, wanted: Sequence[str]) -> tuple[str, ...]:
        return tuple(name for name in wanted if not self.problem_of(name))

    def _looked(self, key: ReleaseKey, future: asyncio.Future[tuple[str, ...]]) -> None:
        if future.cancelled() or self._is_stopped:
            return
        self._under_way.discard(key)
        release, comeback = self._owner.find(key), self._comebacks.get(key)
        if release is None or comeback is None or not _wanted(release):
            return
        error = future.exception()
        if error is not None:
            log.error("%s: a look at its runtimes raised", release.owner, exc_info=error)
        usable = () if error is not None else future.result()
        if usable:
            self._try(release, usable)
            return
        comeback.looked(time.monotonic_ns())
        self.arm()

    def _try(self, release: ServedRelease, runtimes: tuple[str, ...]) -> None:
        config = msgspec.structs.replace(release.config, runtime=runtimes)
        log.info("%s: %s is there again: loading it there", release.owner, " and ".join(runtimes))
        self._under_way.add(release.key)
        if release.config.memory.swap == "replace":
            # Both have no room at once: it goes, and comes back through the whole list.
            release.part()
            when_idle(release, self._reload)
            return
        key = release.key._replace(options=f"{release.key.options} again")
        other = ServedRelease(key, release.whole, release.config, 0)
        other.move(Event.LOAD)
        self._trying[key] = release.key
        order = LoadOrder(release.key.digest, self._owner.stored_of(release), config)
        self._owner.memories.enter(Entry(other, order, Rank.START, may_evict=False))

    def _reload(self, release: ServedRelease) -> None:
        self._under_way.discard(release.key)
        if release.state is not State.READY or release.loss or self._is_stopped:
            return
        session = release.lay_down()
        release.move(Event.EVICT, "it is loaded again on the runtime that it wants")
        release.call()
        self._owner.memories.gone(release, session)
        self._owner.step()

    def _came(self, other: ServedRelease, loaded: Loaded) -> None:
        release = self._owner.find(self._trying.pop(other.key))
        if release is None or release.state is not State.READY or not _wanted(release):
            # It was replaced, sent out of memory or loaded again meanwhile.
            self._under_way.discard(release.key if release is not None else other.key)
            self._owner.memories.gone(other, loaded.session)
            return
        release.part()
        when_idle(release, functools.partial(self._exchange, other, loaded))

    def _exchange(self, other: ServedRelease, loaded: Loaded, release: ServedRelease) -> None:
        """Between two runs: the one session for the other."""
        key = release.key
        self._under_way.discard(key)
        memories = self._owner.memories
        is_there = self._owner.find(key) is release and not release.loss
        before = release.stand_in.skipped if release.stand_in is not None else ()
        if not (is_there and loaded.runtime in _wanted(release)):
            # It was sent away, died, or found its way back by itself in the meantime.
            memories.gone(other, loaded.session)
            return
        skipped = _merged(before, loaded)
        memories.gone(release, release.lay_down())
        memories.of(release.config).ledger.hand_on(other.key, key)
        release.footprint = loaded.footprint
        self.ended[key.model, release.number, "back"] += 1
        log.warning("%s serves on %s again", release.owner, loaded.runtime)
        self._owner.took(release, replace(loaded, skipped=skipped))

    def _failed(self, other: ServedRelease, why: str) -> None:
        key = self._trying.pop(other.key)
        self._under_way.discard(key)
        release, comeback = self._owner.find(key), self._comebacks.get(key)
        if release is None or comeback is None or release.stand_in is None:
            return
        self.ended[key.model, release.number, "failed"] += 1
        first, *rest = release.stand_in.skipped
        skipped = (Skipped(first.runtime, f"tried again: {why}"), *rest)
        release.stand_in = replace(release.stand_in, skipped=skipped)
        comeback.failed(time.monotonic_ns())
        self._on_change()
        self.arm()


def _wanted(release: ServedRelease) -> tuple[str, ...]:
    """The runtimes that it would rather serve on, and that may take it one day."""
    found = release.stand_in
    if found is None or release.state is not State.READY:
        return ()
    return tuple(one.runtime for one in found.skipped if one.may_change)


def _merged(before: Sequence[Skipped], loaded: Loaded) -> tuple[Skipped, ...]:
    """What stands before the runtime that took it at last: that was not tried, or refused it."""
    anew = {one.runtime: one for one in loaded.skipped}
    names = [one.runtime for one in before]
    return tuple(anew.get(one.runtime, one) for one in before[: names.index(loaded.runtime)])


def when_idle(release: ServedRelease, act: Callable[[ServedRelease], None]) -> None:
    """Do something to a release that was told to part, when nothing runs on it any more."""
    if release.running:
        asyncio.get_running_loop().call_later(_POLL_S, when_idle, release, act)
    else:
        act(release)
