"""What a release does while it has no session: it takes requests, and keeps them until it has one.

Who is sent away and who is loaded is decided elsewhere (``memory.py``, ``load_line.py``); this only
changes the one release. Used from the event loop only.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from edged.config.schema import ModelConfig
from edged.errors import (
    DeviceLostError,
    EdgedError,
    ModelNotReadyError,
    QueueFullError,
    TooLargeError,
)
from edged.loading import Footprint
from edged.messages import Ticket
from edged.runtimes.placed import Placed
from edged.serving.answering import Answering
from edged.serving.caching.cached import Cached
from edged.serving.lifecycle import BUSY, ReleaseKey, Snapshot, State
from edged.serving.parts import wholes
from edged.serving.scheduling.backlog import Backlog
from edged.serving.scheduling.scheduler import Waiting
from edged.tensors import TensorSpec

if TYPE_CHECKING:
    from edged.runtimes.base import Session
    from edged.serving.release import ServedRelease
    from edged.workers.isolation import WorkerSession


class Resting(Answering):
    """The part of a release that memory is given to.

    Args:
        key: of the release.
        number: of the release.
    """

    config: ModelConfig
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    runtime: str
    precision: str
    session: Session | None
    remote: WorkerSession | None

    def __init__(self, key: ReleaseKey, number: int) -> None:
        super().__init__(key, number)
        self.backlog = Backlog()
        self._is_out = False
        """Whether it sleeps, or comes back from that."""
        self.is_held = True
        """Nothing new is started: there is no session, or it is about to go."""
        self.is_parting = False
        """Held until its session is exchanged or given up, whoever else lets it go on."""
        self.loss = ""
        """How its session lost its device; empty while it has not, and when that was seen to."""
        self.on_loss: Callable[[ServedRelease], None] | None = None
        self.is_called = False
        """Whether it sleeps and is asked for."""
        self.is_leaving = False
        """Whether another configuration, which is being loaded, goes without it."""
        self.is_proven = False
        """Whether these bytes gave the promised numbers on this device."""
        self.footprint: Footprint | None = None
        self.placed: Placed | None = None
        """Where its nodes run, if anybody tells."""
        self.loads = self.evictions = 0
        self.on_call: Callable[[ReleaseKey], None] | None = None
        self.ready_in_ns: Callable[[ReleaseKey], int] = _unknown
        self.cache: Cached | None = None
        self.ask: Callable[[Waiting], Ticket | None] = self.offer
        """Takes a request: its own queue, or the cache before it."""

    def stand_behind(self, cache: Cached | None) -> None:
        """Be asked through a cache from now on, or without one."""
        self.cache = cache
        self.ask = self.offer if cache is None else cache.ask
        self.configure(self.config)

    def identity(self) -> bytes:
        """Who answers, and by what: equal ones give equal answers to equal questions."""
        return repr((self.key.model, self.key.digest, self.runtime, self.precision)).encode()

    def moved(self) -> int:
        """The state has changed; returns how loud that is to be said."""
        was_out = self._is_out
        if self.state in (State.LOADING, State.READY):
            self.is_called = False
        if self.state not in BUSY:
            self._is_out = self.state is State.ASLEEP
        # In and out of memory is everyday life.
        return logging.DEBUG if (was_out or self._is_out) and self.answers else logging.INFO

    @property
    def answers(self) -> bool:
        """Whether requests are taken: it is ready, or will be after a load, and may be asked."""
        return (self.state is State.READY or self._is_out) and not self.is_dismissed

    def snapshot(self, is_desired: bool) -> Snapshot:
        """What deciding may know."""
        is_called = self.is_called or self.config.memory.pinned
        is_called = is_called and not (self.is_leaving or self.is_dismissed)
        return replace(super().snapshot(is_desired), is_called=is_called)

    def call(self) -> None:
        """A request came for which there is no session."""
        if not self.is_called:
            self.is_called = True
            if self.on_call is not None:
                self.on_call(self.key)

    def hold(self) -> None:
        """Start nothing new; what runs comes to its end."""
        self.is_held = True
        self._stop_waiting()

    def go_on(self) -> None:
        """Start what waits, if there is a session."""
        if self.session is not None and not self.is_parting:
            self.is_held = False
            if self.backlog.items:
                self._go_on()

    def part(self) -> None:
        """Hold, until the session is given up."""
        self.is_parting = True
        self.hold()

    def lose(self, error: DeviceLostError) -> None:
        """The session is of no use any more; who sees to that is told once, soon."""
        if not self.loss and self.session is not None:
            self.loss = error.message
            self.part()
            self.recall()
            asyncio.get_running_loop().call_soon(self._tell_loss)

    def _tell_loss(self) -> None:
        if self.on_loss is not None:
            self.on_loss(cast("ServedRelease", self))

    def lay_down(self) -> Session | None:
        """Give up the session, while nothing runs; what waits stays.

        Returns:
            What is to be closed; None when that was a process, which has been ended.
        """
        self.hold()
        self.is_parting = False
        session, self.session = self.session, None
        remote, self.remote = self.remote, None
        if remote is not None:
            remote.close()
            return None
        return session

    def bereave(self) -> None:
        """The process of the session is gone; remember whose doing that was."""
        self.is_held = True  # who is told may have the next of its sequence offered then and there
        if self.remote is not None:
            self.blame = self.remote.blame
        self.session = self.remote = None

    def expire(self, expired: Sequence[Waiting], now_ns: int) -> None:
        """Answer those whose time is over; who waited for a load is told when that will be over."""
        if self.session is not None:
            super().expire(expired, now_ns)
            return
        error = ModelNotReadyError(
            f"{self.owner} is not in memory, and its load takes longer than the request may wait",
            retry_after_ns=self.ready_in_ns(self.key),
        )
        for item in expired:
            self.fail(item, error)

    def fail_waiting(self, error: EdgedError) -> None:
        """Answer all that waits."""
        for item in self.backlog.clear():
            self.fail(item, error)

    def pass_on(self, other: ServedRelease) -> None:
        """Let the release that replaces this one answer what waits.

        One of another signature, or that answers nobody, is no replacement: nothing happens, or
        who waits is told to ask that one.
        """
        if self.cache is not None:
            self.cache.leave()  # first: what waits may be answered by another one
        if other is self or not other.answers:
            return
        if (other.inputs, other.outputs) != (self.inputs, self.outputs):
            words = f"was replaced by release {other.number}, which has another signature"
            self.fail_waiting(ModelNotReadyError(f"{self.owner} {words}: ask again"))
        for item in wholes(self.backlog.clear()):
            item.queue = other
            try:
                other.offer(item)
            except (QueueFullError, TooLargeError) as exc:
                self.fail(item, exc)
            else:
                self.in_flight -= 1

    def offer(self, item: Waiting) -> Waiting:
        """Queue a request."""
        raise NotImplementedError

    def configure(self, config: ModelConfig) -> None:
        """Follow the model's section."""
        raise NotImplementedError

    def _go_on(self) -> None:
        raise NotImplementedError

    def _stop_waiting(self) -> None:
        raise NotImplementedError

    def recall(self) -> bool:
        """Take back what is ahead; False when a thread has begun it."""
        raise NotImplementedError


def _unknown(_: object) -> int:
    return 0
