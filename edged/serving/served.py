"""What a route points at: a release of a model, or a pipeline. The part that asking needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from edged.costs import Costs
from edged.manifest import Manifest
from edged.messages import Ticket
from edged.runtimes.base import Session
from edged.serving.caching.cached import Cached
from edged.serving.counters import Counters
from edged.serving.lifecycle import ReleaseKey, State
from edged.serving.scheduling.backlog import Backlog
from edged.serving.scheduling.inline import InlineRows
from edged.serving.scheduling.scheduler import Waiting
from edged.serving.scheduling.turn import Turn
from edged.tensors import TensorSpec
from edged.workers.isolation import WorkerSession


class Served(Protocol):
    """Answers requests of one signature, when it is ready."""

    @property
    def key(self) -> ReleaseKey:
        """What it is."""
        ...

    @property
    def manifest(self) -> Manifest:
        """What it promises."""
        ...

    @property
    def number(self) -> int:
        """The release."""
        ...

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The input signature."""
        ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The output signature."""
        ...

    @property
    def most_rows(self) -> int:
        """A request of more rows runs in parts."""
        ...

    @property
    def owner(self) -> str:
        """Its name in messages."""
        ...

    @property
    def state(self) -> State:
        """Where it is in its life."""
        ...

    @property
    def told_state(self) -> str:
        """Where it is, in the words of people."""
        ...

    @property
    def is_dismissed(self) -> bool:
        """Whether an administrator unloaded it."""
        ...

    @property
    def answers(self) -> bool:
        """Whether requests are taken: it is ready, or will be after a load."""
        ...

    @property
    def reason(self) -> str:
        """Why it is not ready, where there is more to say."""
        ...

    @property
    def is_quarantined(self) -> bool:
        """Whether it is not tried again, because it did harm."""
        ...

    @property
    def session(self) -> Session | None:
        """What it runs on this process's threads."""
        ...

    @property
    def remote(self) -> WorkerSession | None:
        """What it runs in a worker."""
        ...

    @property
    def worker_pid(self) -> int:
        """The process that hosts it; 0 when this one does."""
        ...

    @property
    def runtime(self) -> str:
        """The runtime's name."""
        ...

    @property
    def precision(self) -> str:
        """Of the model file."""
        ...

    @property
    def choice(self) -> str:
        """What decided for this precision."""
        ...

    @property
    def typical_run_ns(self) -> int:
        """Of one row."""
        ...

    @property
    def costs(self) -> Costs:
        """What runs take by their rows."""
        ...

    @property
    def batch_rows(self) -> int:
        """Rows that a batch should have."""
        ...

    @property
    def instances(self) -> int:
        """Runs that may be under way at once."""
        ...

    @property
    def places(self) -> int:
        """Requests that somebody far away may have under way; 0 = not known."""
        ...

    @property
    def in_flight(self) -> int:
        """Requests taken and not answered yet."""
        ...

    @property
    def backlog(self) -> Backlog:
        """What waits."""
        ...

    @property
    def is_stateful(self) -> bool:
        """Whether requests belong to sequences."""
        ...

    rank: int
    """Of its class; see ``precedence.RANKS``."""

    @property
    def counters(self) -> Counters:
        """What it has done."""
        ...

    @property
    def inline(self) -> InlineRows:
        """How many rows may run on the loop."""
        ...

    @property
    def turn(self) -> Turn:
        """The loop's."""
        ...

    @property
    def needs_layout(self) -> bool:
        """Whether requests differ in more than their rows."""
        ...

    @property
    def is_inline(self) -> bool:
        """Whether it is fast enough to run on the event loop."""
        ...

    @property
    def is_free(self) -> bool:
        """Whether a request need wait for nothing."""
        ...

    @property
    def is_quick(self) -> bool:
        """Whether it is fast enough to run on the event loop for one who is alone."""
        ...

    @property
    def is_free_for_one(self) -> bool:
        """Whether a request of one who is alone need wait for nothing."""
        ...

    cache: Cached | None
    """What keeps its answers, if anything does."""

    ask: Callable[[Waiting], Ticket | None]
    """Takes a request: ``offer``, or the cache before it. Returns what withdraws the request, or
    None when it has been answered already."""

    def offer(self, item: Waiting) -> Ticket:
        """Queue a request; raises BusyError when there is no room."""
        ...

    def identity(self) -> bytes:
        """Who answers, and by what: equal ones give equal answers to equal questions."""
        ...

    def stay(self) -> Callable[[], None]:
        """Stay loaded until what this returns is called."""
        ...

    def withdraw(self, item: Waiting) -> bool:
        """Give up a request that still waits."""
        ...
