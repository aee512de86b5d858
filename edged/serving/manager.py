"""Brings what runs to what should run, one action at a time for each model.

What to do next is ``lifecycle.next_action``'s decision; this room only does it: loads on a thread
of low priority, and unloads when the last handle is gone. A failed load never stops anything.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping

from edged.config.schema import Config
from edged.errors import BundleError, EdgedError, ModelNotReadyError, QuarantinedError
from edged.loading import Loaded
from edged.serving.choosing.recovery import Recovery
from edged.serving.desired import Desired
from edged.serving.lifecycle import (
    BUSY,
    HOPELESS,
    NEVER_NS,
    Action,
    Event,
    Load,
    ReleaseKey,
    Retire,
    State,
    Unload,
    after_death,
    next_action,
    retry_delay_ns,
)
from edged.serving.memory.load_line import Rank
from edged.serving.memory.loader_thread import make_loader_thread
from edged.serving.memory.memories import Memories
from edged.serving.memory.residency import Ends, Entry
from edged.serving.release import ServedRelease
from edged.serving.rollouts import Rollouts
from edged.serving.scheduling.alarm import Alarm
from edged.serving.scheduling.slots import Devices, rules_of
from edged.serving.scheduling.turn import Turn
from edged.serving.sequences.stateful import Shelves
from edged.serving.settling import Settling
from edged.serving.trial import Loader
from edged.serving.unrest import Unrest, retry_at_ns
from edged.serving.workshop import Workshop
from edged.store.stored import Stored
from edged.system.cores import usable

__all__ = ["Desired", "Manager"]

log = logging.getLogger("edged.serving")

_LATER_NS = 1_000_000
"""Timers may ring a little early, and a step would then find nothing to do."""


class Manager:
    """Owns every release of the process; used from the event loop only.

    Args:
        loader: loads a release; called on a thread of low priority.
        inline_threshold_ns: faster models run on the event loop.
        on_change: called after what answers has changed.
        budgets: bytes that releases may take together, by device.
    """

    def __init__(
        self,
        loader: Loader,
        inline_threshold_ns: int,
        on_change: Callable[[], None],
        budgets: Mapping[str, int] | None = None,
    ) -> None:
        self.loader = loader
        self._inline_threshold_ns = inline_threshold_ns
        self._on_change = on_change
        self._desired: dict[ReleaseKey, Desired] = {}
        self._releases: dict[ReleaseKey, ServedRelease] = {}
        self._stored: dict[ReleaseKey, Stored] = {}
        self._settling = Settling(self._is_settled)
        self._unrest, self._aims = Unrest(), 0
        self._leaving: Collection[ReleaseKey] = ()
        self._retry = Alarm(self.step)
        self._thread = make_loader_thread()
        self._is_stopped = self._is_stepping = self._is_asked = False
        self.on_ready: Callable[[ServedRelease], None] = _nothing
        self.on_hopeless: Callable[[ServedRelease, str], None] = _nothing
        self._turn = Turn()
        self.devices, self.shelves, self.rollouts = Devices(), Shelves(), Rollouts()
        self.workshop = Workshop(self._turn)
        self.recovery = Recovery(self, self._thread, on_change)
        ends = self.recovery.returning.ends(Ends(self._ready, self._asleep, self._load_failed))
        self.memories = Memories(loader, self._thread, budgets or {}, ends, self._releases.values)

    def schedule(self, config: Config) -> bool:
        """Give out the devices as configured; whether that is otherwise than before.

        The releases are told by ``follow``.
        """
        rules = rules_of(config, len(usable()))
        is_given_anew = rules != self.devices.rules
        self._turn.starvation_ns = rules.starvation_ns
        self.devices.configure(rules)
        self.workshop.caches.configure(config)
        self.rollouts.configure(config)
        return is_given_anew

    def follow(self, releases: Iterable[Desired], *, is_given_anew: bool = False) -> None:
        """Let releases follow their models' sections.

        Args:
            releases: with what is said of them now.
            is_given_anew: what ``schedule`` said: also those whose section is as it was.
        """
        for item in releases:
            release = self._releases[item.key]
            # Most of hundreds stay as they were, and whoever asks meanwhile waits for this loop.
            if is_given_anew or release.config != item.config:
                release.configure(item.config)
            self.workshop.caches.serve(release)

    def releases(self) -> list[ServedRelease]:
        """Every release in any state, oldest first."""
        return list(self._releases.values())

    def find(self, key: ReleaseKey) -> ServedRelease | None:
        """The release of a key, while there is one."""
        return self._releases.get(key)

    def changed(self) -> None:
        """What answers has changed."""
        self._on_change()

    def stored_of(self, release: ServedRelease) -> Stored:
        """Its bundle."""
        return self._stored[release.key]

    def get(self, key: ReleaseKey) -> ServedRelease:
        """The release of a key that is or was desired."""
        return self._releases[key]

    def want(self, desired: Iterable[Desired], leaving: Iterable[Desired] = ()) -> None:
        """Say what should be there, as a whole; work towards it starts at once; see ``aim``."""
        self.aim(desired, leaving)
        self.step()

    def aim(self, desired: Iterable[Desired], leaving: Iterable[Desired] = ()) -> None:
        """Say what should be there, as a whole; the work towards it waits for a ``step``.

        Those ``leaving`` are wanted until something else says so, and serve meanwhile.
        """
        new = {item.key: item for item in desired}
        old = {item.key: item for item in leaving if item.key not in new}
        self._desired = {**old, **new} if old else new
        self.memories.host([item.config for item in self._desired.values()])
        self._aims += 1
        for keys, is_leaving in ((self._leaving, False), (old, True)):
            for key in keys:
                if key in self._releases:
                    self._releases[key].is_leaving = is_leaving
        self._leaving = old.keys()
        for key in [key for key in self._desired if key not in self._releases]:
            self._add(self._desired[key])
        self._stored.update({key: item.stored for key, item in self._desired.items()})

    def wanted(self) -> list[Desired]:
        """What was last said to ``want``."""
        return list(self._desired.values())

    def dismiss(self, releases: Iterable[ServedRelease], *, away: bool = True) -> None:
        """Let releases answer nobody, as an administrator asks; or whoever asks again."""
        for release in releases:
            release.dismiss(away=away)
        self._on_change()

    async def settled(self, keys: Iterable[ReleaseKey]) -> None:
        """Wait until each of these is ready, has failed, or is wanted no longer."""
        if not self._unrest.is_over(self._aims):
            await self._settling.wait(keys)

    async def drained(self) -> None:
        """Wait until no release has a request in flight."""
        # Looked at, not signalled: this happens once, when the process stops.
        while any(r.in_flight for r in self._releases.values()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    def stop(self) -> None:
        """Give everything back; nothing is served any more."""
        self._is_stopped = True
        self.rollouts.stop()
        self.memories.stop()
        self.recovery.returning.stop()
        self._retry.cancel()
        for release in self._releases.values():
            release.close()
        self.workshop.close()
        # Last: with the thread that started them the kernel ends the workers (worker.confine).
        self._thread.shutdown(wait=False, cancel_futures=True)

    @property
    def is_loading(self) -> bool:
        """Whether the loader is at work; a load cannot be interrupted."""
        return any(release.state in BUSY for release in self._releases.values())

    def step(self) -> None:
        """Do what ``next_action`` says until it says nothing more."""
        self._is_asked = True
        if self._is_stopped or self._is_stepping:
            return  # an action may end at once and ask for the next
        self._is_stepping = True
        try:
            while self._is_asked:
                self._is_asked = False
                self._step()
        finally:
            self._is_stepping = False

    def _step(self) -> None:
        now_ns = time.monotonic_ns()
        models = self._unrest.find(self._releases, self._desired, self._aims)
        for keys in models.values():
            while action := self._decide(keys, now_ns):
                self._perform(action)
                if isinstance(action, Load):
                    break
        self._settling.wake()
        at_ns = retry_at_ns(self._releases, self._desired, models)
        if at_ns is not None:
            self._retry.arm(at_ns + _LATER_NS)

    def _decide(self, keys: Iterable[ReleaseKey], now_ns: int) -> Action | None:
        snapshots = [
            self._releases[key].snapshot(key in self._desired)
            for key in keys
            if key in self._releases
        ]
        return next_action(snapshots, now_ns)

    def _perform(self, action: Action) -> None:
        release = self._releases[action.key]
        if isinstance(action, Load):
            self._start_load(release)
        elif isinstance(action, Retire):
            release.move(Event.RETIRE)
            if release.state is State.UNLOADED:
                self._forget(release)
        elif isinstance(action, Unload):
            release.move(Event.DRAINED)
            self._forget(release)
        if not release.answers:  # else it only comes back into memory
            self._on_change()

    def _add(self, item: Desired) -> None:
        manifest, threshold_ns = item.stored.manifest, self._inline_threshold_ns
        release = self.shelves.make(
            item.key, manifest, item.config, threshold_ns, self._turn, devices=self.devices
        )
        release.on_idle = self._on_idle
        release.on_death = self._on_death
        release.on_call = self._on_call
        release.on_loss = self.recovery.lost
        release.ready_in_ns = self.memories.ready_in_ns
        self.workshop.caches.serve(release)
        self._releases[item.key] = release
        self._stored[item.key] = item.stored

    def _forget(self, release: ServedRelease) -> None:
        others = [one for one in self._releases.values() if one.key.model == release.key.model]
        release.pass_on(max(others, key=lambda one: (one.answers, one.number)))
        session = self.recovery.lay_down(release)
        release.close()
        del self._releases[release.key]
        del self._stored[release.key]
        if release.key in self._desired:  # wanted again while it drained
            self._add(self._desired[release.key])
        self.recovery.review()
        self.memories.gone(release, session)

    def _start_load(self, release: ServedRelease) -> None:
        before = release.state
        was_called = release.is_called
        release.move(Event.LOAD)
        memory = release.config.memory
        siblings = [
            other
            for other in self._releases.values()
            if other.key.model == release.key.model and other.state is State.READY
        ]
        rank = Rank.PINNED if memory.pinned else Rank.START
        is_lazy = memory.load == "lazy" and before is not State.ASLEEP and not siblings
        order = self.recovery.order(release, self._stored[release.key])
        self.memories.enter(
            Entry(
                release,
                order,
                Rank.ASKED if was_called else rank,
                # Whoever is there already is replaced by this one; a start takes what is free.
                may_evict=was_called or memory.pinned or bool(siblings),
                is_proof_only=is_lazy,
                replaced=siblings if memory.swap == "replace" else (),
            )
        )

    def _ready(self, release: ServedRelease, loaded: Loaded) -> None:
        was_there = release.answers
        self.recovery.ready(release, loaded)
        release.failures = 0
        release.move(Event.WARMED)
        self.on_ready(release)
        self._ended(was_there=was_there)

    def took(self, release: ServedRelease, loaded: Loaded) -> None:
        """A release that is ready has another session now."""
        self.recovery.ready(release, loaded)
        self.on_ready(release)
        self._ended(was_there=False)

    def _asleep(self, release: ServedRelease, reason: str) -> None:
        release.move(Event.PUT_OFF, reason)
        self._ended(was_there=False)

    def _ended(self, *, was_there: bool) -> None:
        self.recovery.review()
        if not was_there:
            self._on_change()
        self.step()

    def _on_call(self, _key: ReleaseKey) -> None:
        # Soon: whoever asks is in the middle of handing over a request.
        asyncio.get_running_loop().call_soon(self.step)

    def _load_failed(self, release: ServedRelease, error: BaseException) -> None:
        release.failures += 1
        delay_ns = retry_delay_ns(release.failures)
        release.retry_at_ns = time.monotonic_ns() + delay_ns
        release.is_quarantined = isinstance(error, QuarantinedError)
        if isinstance(error, BundleError):
            # What a bundle holds does not change by waiting; another bundle is another release.
            release.retry_at_ns, delay_ns = NEVER_NS, 0
        if isinstance(error, EdgedError):
            reason = self.recovery.explain(release, error)
        else:
            log.error("%s: loading raised", release.owner, exc_info=error)
            reason = f"loading raised {type(error).__name__}; see the log"
        release.move(Event.FAIL, reason)
        words = f"{release.owner} could not be loaded: {reason}"
        release.fail_waiting(ModelNotReadyError(words, retry_after_ns=delay_ns))
        for other in self._releases.values():
            if other.key.model == release.key.model:
                other.is_leaving = False  # it stays after all
        self._ended(was_there=False)

    def reconsider(self, is_quarantined: Callable[[str], bool]) -> None:
        """Try again what an operator let out of quarantine."""
        for release in self._releases.values():
            if release.is_quarantined and not is_quarantined(release.key.digest):
                release.is_quarantined = False
                release.deaths_ns = []
                release.retry_at_ns = 0
        self.recovery.look_now()
        self.step()

    def _on_death(self, release: ServedRelease, reason: str) -> None:
        """The worker of a release that serves is gone."""
        now_ns = time.monotonic_ns()
        release.deaths_ns, delay_ns = after_death(release.deaths_ns, now_ns, release.blame)
        self.memories.gone(release)
        if release.state is not State.READY:
            self.step()
            return
        if delay_ns is None:
            reason = f"{HOPELESS}: {reason}"
            self.on_hopeless(release, reason)
            release.is_quarantined = True
        release.retry_at_ns = NEVER_NS if delay_ns is None else now_ns + delay_ns
        release.move(Event.DIE, reason)
        self._on_change()
        self.step()

    def _on_idle(self, _release: ServedRelease) -> None:
        self.step()

    def _is_settled(self, key: ReleaseKey) -> bool:
        done = (State.READY, State.ASLEEP, State.FAILED)
        return key not in self._desired or self._releases[key].state in done


def _nothing(*_: object) -> None:
    pass
