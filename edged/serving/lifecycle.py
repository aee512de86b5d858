"""The life of one release: its states, the law of their changes, and what keeps it alive.

``next_action`` decides, from snapshots and the time alone, the one thing to do next for a model.
Nothing here loads, runs or waits.
Source: TF Serving's aspired-version policy (availability preserving: load first, unload after).
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from edged.workers.blame import Blame


class State(enum.Enum):
    """Where a release is in its life."""

    NEW = "new"
    LOADING = "loading"
    WARMING = "warming"
    READY = "ready"
    ASLEEP = "asleep"
    """Not in memory, and loaded again by its next request."""
    DRAINING = "draining"
    UNLOADED = "unloaded"
    FAILED = "failed"


class Event(enum.Enum):
    """What can happen to a release."""

    LOAD = "load"
    LOADED = "loaded"
    WARMED = "warmed"
    FAIL = "fail"
    DIE = "die"
    PUT_OFF = "put_off"
    EVICT = "evict"
    RETIRE = "retire"
    DRAINED = "drained"


TRANSITIONS: dict[State, dict[Event, State]] = {
    State.NEW: {Event.LOAD: State.LOADING, Event.RETIRE: State.UNLOADED},
    State.LOADING: {
        Event.LOADED: State.WARMING,
        Event.FAIL: State.FAILED,
        Event.PUT_OFF: State.ASLEEP,
    },
    State.WARMING: {Event.WARMED: State.READY, Event.FAIL: State.FAILED},
    State.READY: {
        Event.DIE: State.FAILED,
        Event.EVICT: State.ASLEEP,
        Event.RETIRE: State.DRAINING,
    },
    State.ASLEEP: {Event.LOAD: State.LOADING, Event.RETIRE: State.UNLOADED},
    State.DRAINING: {Event.DRAINED: State.UNLOADED},
    State.FAILED: {Event.LOAD: State.LOADING, Event.RETIRE: State.UNLOADED},
    State.UNLOADED: {},
}
"""The law as a table; docs/architecture.md shows the same one."""

BUSY = frozenset({State.LOADING, State.WARMING})
"""States in which somebody is at work on the release; nothing else is started for its model."""


def advance(state: State, event: Event) -> State:
    """The state after ``event``; an event the table does not allow is a bug and raises."""
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise AssertionError(f"{event.value} cannot happen in state {state.value}") from None


class ReleaseKey(NamedTuple):
    """What makes two loaded releases the same thing: the bytes and how they are run."""

    model: str
    digest: str
    options: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What ``next_action`` may know of one release.

    Args:
        key: which one.
        release: its number.
        state: where it is.
        is_desired: whether it should be there.
        in_flight: requests that hold a handle on it.
        retry_at_ns: monotonic time from which a failed load may be tried again.
        is_called: whether one that sleeps is asked for.
    """

    key: ReleaseKey
    release: int
    state: State
    is_desired: bool
    in_flight: int = 0
    retry_at_ns: int = 0
    is_called: bool = False


@dataclass(frozen=True, slots=True)
class Load:
    """Load this release."""

    key: ReleaseKey


@dataclass(frozen=True, slots=True)
class Retire:
    """Take nothing new for this release and let it finish."""

    key: ReleaseKey


@dataclass(frozen=True, slots=True)
class Unload:
    """Nobody holds it any more: give back what it holds."""

    key: ReleaseKey


Action = Load | Retire | Unload

_FIRST = (State.FAILED, State.ASLEEP, State.NEW)


def next_action(snapshots: Sequence[Snapshot], now_ns: int) -> Action | None:
    """Choose the next thing to do for one model, or None.

    Order: give back what is drained, then load what is missing (highest release first), and
    retire what is not wanted last, so that a model never has fewer ready releases than before.

    Args:
        snapshots: all releases of one model.
        now_ns: monotonic clock, nanoseconds.
    """
    for snapshot in snapshots:
        if snapshot.state is State.DRAINING and snapshot.in_flight == 0:
            return Unload(snapshot.key)
    if any(snapshot.state in BUSY for snapshot in snapshots):
        return None
    loadable = [
        snapshot
        for snapshot in snapshots
        if snapshot.is_desired
        and (
            snapshot.state is State.NEW
            or (snapshot.state is State.ASLEEP and snapshot.is_called)
            or (snapshot.state is State.FAILED and snapshot.retry_at_ns <= now_ns)
        )
    ]
    if loadable:
        # A fresh one goes before one that was there, and both before another try of a failed one.
        first = max(loadable, key=lambda s: (_FIRST.index(s.state), s.release))
        return Load(first.key)
    retirable = {State.NEW, State.READY, State.ASLEEP, State.FAILED}
    for snapshot in snapshots:
        if not snapshot.is_desired and snapshot.state in retirable:
            return Retire(snapshot.key)
    return None


DEATHS_CAP, DEATHS_WINDOW_NS = 5, 60_000_000_000
"""A worker that died so often within so long will die again: its release is quarantined."""


def restart_delay_ns(deaths_ns: Sequence[int], now_ns: int) -> int | None:
    """How long to leave a worker's release alone after a death, or None for ever.

    The first death is answered at once, the next ones after 0.1 s, doubling: a model that dies of
    certain requests is back within two seconds, and one that dies of all does not take the box
    along.

    Args:
        deaths_ns: when its workers died, monotonic, this death included.
        now_ns: monotonic clock, nanoseconds.
    """
    recent = [at_ns for at_ns in deaths_ns if at_ns > now_ns - DEATHS_WINDOW_NS]
    if len(recent) >= DEATHS_CAP:
        return None
    return 0 if len(recent) < 2 else 100_000_000 << (len(recent) - 2)


HOPELESS = f"its worker died {DEATHS_CAP} times within {DEATHS_WINDOW_NS // 10**9} s, at last"
UNCLEAR_DELAY_NS = 30_000_000_000
"""A process that died so often that its models would be left out, if it were known which."""


def after_death(
    deaths_ns: Sequence[int], now_ns: int, blame: Blame = Blame.OWN
) -> tuple[list[int], int | None]:
    """What a death of its process comes to for a release.

    One that another model did is no death of its own, and its restart waits for nothing. One that
    nobody is to blame for counts, but leaves nobody out.

    Args:
        deaths_ns: the deaths before.
        now_ns: monotonic clock, nanoseconds.
        blame: whose doing this one was.

    Returns:
        The deaths to remember, and how long to leave the release alone; None for ever.
    """
    if blame is Blame.OTHER:
        return list(deaths_ns), 0
    deaths = [*deaths_ns[1 - DEATHS_CAP :], now_ns]
    delay_ns = restart_delay_ns(deaths, now_ns)
    if delay_ns is None and blame is Blame.UNCLEAR:
        delay_ns = UNCLEAR_DELAY_NS
    return deaths, delay_ns


NEVER_NS = (1 << 63) - 1
"""A time that does not come."""


def retry_delay_ns(failures: int) -> int:
    """How long to leave a failed load alone: 1 s, doubling, at most a minute."""
    return min(60, 1 << min(failures - 1, 6)) * 1_000_000_000
