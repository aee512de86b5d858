"""Brings releases into memory and sends them out again: does what ``load_line.py`` says.

Used from the event loop; what takes long is done on the loader's thread. Sessions that go are
closed there too, before the load that they made room for: so the memory is there when it is needed.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

from edged.device.memory import hand_back
from edged.errors import EdgedError, MemoryBudgetError
from edged.loading import Loaded
from edged.runtimes.base import Session
from edged.serving.lifecycle import Event, ReleaseKey, State
from edged.serving.memory.footprint import Prepared
from edged.serving.memory.load_line import (
    AskAt,
    Begin,
    LeaveOut,
    LoadLine,
    Prove,
    Quiet,
    Rank,
    Refuse,
    Step,
    Wish,
)
from edged.serving.memory.memory import Heat, Ledger, Resident, charge, choose_victims
from edged.serving.release import ServedRelease
from edged.serving.trial import Loader, LoadOrder

log = logging.getLogger("edged.serving")

_POLL_S = 0.005
"""While a load waits for others to fall idle. They do not tell: that would cost every request."""
_LOOK_S = 10.0
"""Use is noted at each load and so often, while it may matter soon."""
_FIRST_NS = 1_000_000_000
"""What a load is taken to need of which none was seen; a small model needs a tenth of it."""
_LEAST_NS = 10_000_000
"""No load is told to be nearer than that: who asks again at once only asks twice."""


@dataclass(slots=True)
class Entry:
    """One release that wants in.

    Args:
        release: which one.
        order: what to load.
        rank: see ``load_line.Rank``.
        may_evict: whether others may go for it.
        is_proof_only: it is only to be proven.
        replaced: releases that go first, whatever they are worth.
    """

    release: ServedRelease
    order: LoadOrder
    rank: Rank
    may_evict: bool = True
    is_proof_only: bool = False
    replaced: Sequence[ServedRelease] = ()


@dataclass(slots=True)
class Ends:
    """Who is told how it ended; each is called on the loop."""

    ready: Callable[[ServedRelease, Loaded], None]
    asleep: Callable[[ServedRelease, str], None]
    failed: Callable[[ServedRelease, BaseException], None]


@dataclass(slots=True)
class _Work:
    """What is under way on the loader's thread."""

    entry: Entry
    began_ns: int = field(default_factory=time.monotonic_ns)


class Residency:
    """The memory of one device, and who is in it.

    Args:
        loader: loads and proves.
        thread: where it does.
        budget: bytes.
        ends: told how each entry ended.
        releases: every release there is.
    """

    def __init__(
        self,
        loader: Loader,
        thread: Executor,
        budget: int,
        ends: Ends,
        releases: Callable[[], Iterable[ServedRelease]],
    ) -> None:
        self._loader = loader
        self._thread = thread
        self._ends = ends
        self._releases = releases
        self.ledger: Ledger[ReleaseKey] = Ledger(budget)
        self._line = LoadLine(self.ledger)
        self._heat: Heat[ReleaseKey] = Heat()
        self._entries: dict[ReleaseKey, Entry] = {}
        self._work: _Work | None = None
        self._leaving: list[Session] = []
        self._timer: asyncio.TimerHandle | None = None
        self._looking: asyncio.TimerHandle | None = None
        self._is_stopped = self._is_stepping = False

    def enter(self, entry: Entry) -> None:
        """Let a release stand in line; how it ends is told to ``ends``."""
        release = entry.release
        self._look()
        self._entries[release.key] = entry
        need = 0 if release.footprint is None or entry.is_proof_only else self._charge(release)
        self._line.ask(Wish(release.key, entry.rank, entry.may_evict, need, entry.is_proof_only))
        self.step()

    def gone(self, release: ServedRelease, session: Session | None = None) -> None:
        """A release takes no memory any more, but for a session that is to be closed."""
        self._leaving += [session] if session is not None else []
        self.ledger.give_back(release.key)
        self.step()

    def set_budget(self, budget: int) -> None:
        """Have another budget from now on; who is too much goes as soon as it has no work."""
        self.ledger.budget = budget
        self.step()

    def stop(self) -> None:
        """Begin nothing any more."""
        self._is_stopped = True
        for timer in (self._timer, self._looking):
            if timer is not None:
                timer.cancel()

    def as_dict(self) -> dict[str, int]:
        """For the status page: bytes that releases may take, and those that some may have."""
        return {
            "budget_bytes": self.ledger.budget,
            "promised_bytes": self.ledger.used,
            "waiting_loads": len(self._line.waiting()),
        }

    def ready_in_ns(self, key: ReleaseKey) -> int:
        """How long until a release is there, as far as loads before tell, nanoseconds."""
        ahead_ns = 0
        if self._work is not None:
            took_ns = time.monotonic_ns() - self._work.began_ns
            ahead_ns = max(_load_ns(self._work.entry.release) - took_ns, 0)
            if self._work.entry.release.key == key:
                return max(ahead_ns, _LEAST_NS)
        waiting = self._line.waiting()
        before = waiting[: waiting.index(key)] if key in waiting else waiting
        ahead_ns += sum(_load_ns(self._entries[one].release) for one in before)
        own = next((one for one in self._releases() if one.key == key), None)
        return max(ahead_ns + (_load_ns(own) if own is not None else _FIRST_NS), _LEAST_NS)

    def step(self) -> None:
        """Do what is to be done now; called when anything changed."""
        if self._is_stopped or self._is_stepping:
            return  # whoever is told how something ended may ask for more: the loop below sees it
        self._is_stepping = True
        try:
            self._shrink()
            quiet = self._advance()
            for release in self._releases():
                if release.key in quiet and release.state is State.READY:
                    release.hold()
                elif release.is_held:
                    release.go_on()
        finally:
            self._is_stepping = False
        if self._leaving and self._work is None:
            self._close_leaving()
        if self.ledger.over:
            self._poll()

    def _advance(self) -> Collection[ReleaseKey]:
        """Begin what may begin; returns who is to start nothing new meanwhile."""
        while self._work is None and self._line.waiting():
            busy = self._to_replace()
            if busy:
                self._poll()
                return busy
            here = self._residents() if self._line.is_short() else ()  # long, with a thousand
            step = self._line.next_step(here, time.monotonic_ns())
            if step is None or isinstance(step, AskAt | Quiet):
                self._poll()
                return step.keys if isinstance(step, Quiet) else ()
            self._do(step)
        return ()

    def _do(self, step: Step[ReleaseKey]) -> None:
        if isinstance(step, Prove):
            entry = self._entries[step.key]
            self._submit(entry, functools.partial(self._loader.prepare, entry.order), self._proved)
        elif isinstance(step, Begin):
            self._begin(step)
        elif isinstance(step, LeaveOut):
            used = f"{_mib(self.ledger.used)} of {_mib(self.ledger.budget)} are in use"
            reason = f"no room at the start ({used}); its first request loads it"
            self._ends.asleep(self._entries.pop(step.key).release, reason)
        elif isinstance(step, Refuse):
            entry = self._entries.pop(step.key)
            self._ends.failed(entry.release, _too_large(entry.release, step, self.ledger.budget))

    def _begin(self, step: Begin[ReleaseKey]) -> None:
        entry = self._entries[step.key]
        for key in step.victims:
            self.evict(self._of(key), f"made room for {entry.release.owner}")
        entry.release.loads += 1
        leaving, self._leaving = self._leaving, []
        loop = asyncio.get_running_loop()

        def on_loaded() -> None:
            loop.call_soon_threadsafe(entry.release.move, Event.LOADED)

        def job() -> Loaded:
            _close(leaving)
            return self._loader.load(entry.order, on_loaded)

        self._submit(entry, job, self._loaded)

    def _submit(
        self,
        entry: Entry,
        job: Callable[[], object],
        on_done: Callable[[Entry, asyncio.Future[object]], None],
    ) -> None:
        self._work = _Work(entry)
        future = asyncio.get_running_loop().run_in_executor(self._thread, job)
        future.add_done_callback(functools.partial(on_done, entry))

    def _proved(self, entry: Entry, future: asyncio.Future[object]) -> None:
        if future.cancelled() or self._is_stopped:
            return
        self._work = None
        error = future.exception()
        if error is not None:
            self._fail(entry, error)
            return
        prepared = future.result()
        assert isinstance(prepared, Prepared)
        release = entry.release
        release.is_proven = release.is_proven or prepared.is_proven
        release.footprint = prepared.footprint
        if self._line.proved(release.key, self._charge(release)):
            del self._entries[release.key]
            self._ends.asleep(release, "its first request loads it")
        self.step()

    def _loaded(self, entry: Entry, future: asyncio.Future[object]) -> None:
        if future.cancelled():
            return
        self._work = None
        error = future.exception()
        if self._is_stopped:
            if error is None:
                _loaded_of(future).session.close()
            return
        if error is not None:
            self._fail(entry, error)
            return
        loaded, release = _loaded_of(future), entry.release
        del self._entries[release.key]
        self._line.loaded(release.key, loaded.footprint.held)
        release.footprint, release.is_proven = loaded.footprint, True
        self._watch_use()
        self._ends.ready(release, loaded)
        self.step()

    def _fail(self, entry: Entry, error: BaseException) -> None:
        del self._entries[entry.release.key]
        self._line.failed(entry.release.key)
        self._ends.failed(entry.release, error)
        self.step()

    def _to_replace(self) -> set[ReleaseKey]:
        """Send away what the next one replaces; returns those that something still runs on."""
        entry = self._entries[self._line.waiting()[0]]
        if entry.release.footprint is None or entry.is_proof_only:
            return set()  # it is only looked at now, and they serve on
        busy = set()
        for old in entry.replaced:
            if old.state is State.READY and old.running:
                busy.add(old.key)
            elif old.state is State.READY:
                self.evict(old, f"{entry.release.owner} replaces it")
                if old.is_leaving:
                    old.call()  # should the new one come to nothing, it is wanted back
        return busy

    def _shrink(self) -> None:
        """Send away what is over the budget, after that was lowered."""
        if self.ledger.over:
            for key in choose_victims(self.ledger.over, self._residents()) or ():
                self.evict(self._of(key), "the budget was lowered")

    def evict(self, release: ServedRelease, why: str) -> None:
        """Send away one that nothing runs on; what waits for it brings it back."""
        release.evictions += 1
        if (session := release.lay_down()) is not None:
            self._leaving.append(session)
        self.ledger.give_back(release.key)
        release.move(Event.EVICT, why)
        if release.backlog.items:
            release.call()

    def _close_leaving(self) -> None:
        leaving, self._leaving = self._leaving, []
        self._thread.submit(_close, leaving)

    def _residents(self) -> list[Resident[ReleaseKey]]:
        known, sizes = {one.key: one for one in self._releases()}, self.ledger.sizes()
        return [self._resident(known.get(key), key, size) for key, size in sizes.items()]

    def _resident(
        self, release: ServedRelease | None, key: ReleaseKey, size: int
    ) -> Resident[ReleaseKey]:
        if release is None or release.state is not State.READY:
            return Resident(key, size, is_busy=True)
        work = release.running if release.is_held else release.in_flight
        return Resident(key, size, self._heat.of(key), release.config.memory.pinned, work > 0)

    def _of(self, key: ReleaseKey) -> ServedRelease:
        return next(release for release in self._releases() if release.key == key)

    def _charge(self, release: ServedRelease) -> int:
        assert release.footprint is not None
        peak, is_measured = release.footprint.peak, release.footprint.is_measured
        sizes, here = self.ledger.sizes(), (r for r in self._releases() if r.state is State.READY)
        pinned = sum(sizes.get(one.key, 0) for one in here if one.config.memory.pinned)
        return charge(peak, self.ledger.budget, pinned, is_measured=is_measured)

    def _look(self) -> None:
        self._heat.look({one.key: one.asked for one in self._releases()})

    def _watch_use(self) -> None:
        """Note use from time to time, as long as somebody may have to go soon."""
        if self._looking is None and self.ledger.used * 2 > self.ledger.budget:
            loop = asyncio.get_running_loop()
            self._looking = loop.call_later(_LOOK_S, self._look_again)

    def _look_again(self) -> None:
        self._looking = None
        self._look()
        self._watch_use()

    def _poll(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_POLL_S, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        self.step()


def _loaded_of(future: asyncio.Future[object]) -> Loaded:
    loaded = future.result()
    assert isinstance(loaded, Loaded)
    return loaded


def _close(sessions: Iterable[Session]) -> None:
    """On the loader's thread: freeing a large model takes time."""
    count = 0
    for session in sessions:
        session.close()
        count += 1
    if count:
        hand_back()


def _load_ns(release: ServedRelease) -> int:
    return (release.footprint.load_ns if release.footprint is not None else 0) or _FIRST_NS


def _too_large(release: ServedRelease, step: Refuse[ReleaseKey], budget: int) -> EdgedError:
    less = f", and pinned models leave {_mib(step.most)} of it" if step.most < budget else ""
    return MemoryBudgetError(
        f"{release.owner} needs {_mib(step.need)} to load; memory.budget leaves {_mib(budget)}"
        f"{less}: raise it or unpin a model"
    )


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.0f} MiB"
