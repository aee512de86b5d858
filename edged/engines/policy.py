"""When an engine is built: the states of a build, and the one thing to do next.

Decides from what is wanted, how the device is, and the time, which is passed in; starts, stops and
reads nothing. One build at a time: two would fight for the GPU that serves, and time each other.

    wanted - begin -> building - built -> checking - accept -> ready - swapped -> serving
      ^               |  pause, resume       |                   |
      | retry         | fail                 | fail              | fail
      +--- failed <---+----------------------+-------------------+
             +- after ATTEMPTS: given up, until TensorRT, the driver or the bundle is another

A rebuild is a wish of its own: another host or bundle is another key.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

NEVER_NS = (1 << 63) - 1
ATTEMPTS = 3
"""A build fails for reasons that stay: an operator, memory, a precision. A third try is for those
that do not."""
_DELAYS_NS = (60_000_000_000, 900_000_000_000)
"""After the first and the second failure: a GPU that was full has often room again within a minute,
a box that was busy within a quarter of an hour."""


class Phase(enum.Enum):
    """Where a build is."""

    WANTED = "wanted"
    BUILDING = "building"
    PAUSED = "paused"
    CHECKING = "checking"
    """The golden samples are compared, and the engine is sealed and written."""
    READY = "ready"
    """It is in the cache, and the release is being exchanged for one that runs on it."""
    SERVING = "serving"
    FAILED = "failed"
    GIVEN_UP = "given up"


class Event(enum.Enum):
    """What can happen to it."""

    BEGIN = "begin"
    PAUSE = "pause"
    RESUME = "resume"
    BUILT = "built"
    ACCEPT = "accept"
    SWAPPED = "swapped"
    FAIL = "fail"
    GIVE_UP = "give_up"
    RETRY = "retry"
    FOUND = "found"


_UNDER_WAY = {Event.FAIL: Phase.FAILED, Event.GIVE_UP: Phase.GIVEN_UP}
TRANSITIONS: dict[Phase, dict[Event, Phase]] = {
    Phase.WANTED: {Event.BEGIN: Phase.BUILDING, Event.FOUND: Phase.READY, **_UNDER_WAY},
    Phase.BUILDING: {Event.PAUSE: Phase.PAUSED, Event.BUILT: Phase.CHECKING, **_UNDER_WAY},
    Phase.PAUSED: {Event.RESUME: Phase.BUILDING, Event.BUILT: Phase.CHECKING, **_UNDER_WAY},
    Phase.CHECKING: {Event.ACCEPT: Phase.READY, **_UNDER_WAY},
    Phase.READY: {Event.SWAPPED: Phase.SERVING, **_UNDER_WAY},
    Phase.SERVING: {**_UNDER_WAY},
    Phase.FAILED: {Event.RETRY: Phase.WANTED, Event.FOUND: Phase.READY, **_UNDER_WAY},
    Phase.GIVEN_UP: {Event.RETRY: Phase.WANTED, Event.FOUND: Phase.READY},
}
"""The law as a table."""

RUNNING = frozenset({Phase.BUILDING, Phase.PAUSED, Phase.CHECKING})
"""A process or a thread is at work for it."""


def advance(phase: Phase, event: Event) -> Phase:
    """The phase after an event; one that the table does not allow is a bug and raises."""
    try:
        return TRANSITIONS[phase][event]
    except KeyError:
        raise AssertionError(
            f"{event.value} cannot happen to a build that is {phase.value}"
        ) from None


@dataclass(frozen=True, slots=True)
class View:
    """What may be known of one build.

    Args:
        key: which one.
        phase: where it is.
        is_wanted: whether a release still wants it.
        retry_at_ns: monotonic time from which one that failed may be tried again.
        worked_ns: how long its process was at work, pauses left out.
        order: those with a smaller one go first.
    """

    key: str
    phase: Phase
    is_wanted: bool = True
    retry_at_ns: int = 0
    worked_ns: int = 0
    order: int = 0


@dataclass(frozen=True, slots=True)
class Weather:
    """How the device is.

    Args:
        trouble: why no build should be at work: heat or power; empty when nothing is in the way.
        is_loading: whether a release is being loaded or tried.
        quiet_until_ns: monotonic time from which a build may begin; a load moves it on, for a
            start, an update or a reload has first claim to the device.
        is_taken: whether another process builds on this device.
    """

    trouble: str = ""
    is_loading: bool = False
    quiet_until_ns: int = 0
    is_taken: bool = False


@dataclass(frozen=True, slots=True)
class Begin:
    """Start this build."""

    key: str


@dataclass(frozen=True, slots=True)
class Pause:
    """Let it stand still."""

    key: str


@dataclass(frozen=True, slots=True)
class Resume:
    """Let it go on."""

    key: str


@dataclass(frozen=True, slots=True)
class End:
    """Kill it; ``why`` is its failure, and empty where nobody wants it any more."""

    key: str
    why: str


@dataclass(frozen=True, slots=True)
class Again:
    """Want one that failed once more."""

    key: str


Step = Begin | Pause | Resume | End | Again


def next_step(views: Sequence[View], weather: Weather, timeout_ns: int, now_ns: int) -> Step | None:
    """The next thing to do, or None.

    Args:
        views: every build.
        weather: how the device is.
        timeout_ns: the longest that a process may be at work.
        now_ns: monotonic clock, nanoseconds.
    """
    running = next((one for one in views if one.phase in RUNNING), None)
    if running is not None:
        return _of_running(running, weather, timeout_ns)
    for one in views:
        if one.phase is Phase.FAILED and one.is_wanted and one.retry_at_ns <= now_ns:
            return Again(one.key)
    if held_back(weather, now_ns):
        return None
    waiting = [one for one in views if one.phase is Phase.WANTED and one.is_wanted]
    return Begin(min(waiting, key=lambda one: one.order).key) if waiting else None


def _of_running(one: View, weather: Weather, timeout_ns: int) -> Step | None:
    if one.phase is Phase.CHECKING:
        return None
    if not one.is_wanted:
        return End(one.key, "")
    if one.worked_ns >= timeout_ns:
        seconds = timeout_ns / 1e9
        return End(one.key, f"it was not built within {seconds:g} s (engines.timeout)")
    if one.phase is Phase.BUILDING and weather.trouble:
        return Pause(one.key)
    if one.phase is Phase.PAUSED and not weather.trouble:
        return Resume(one.key)
    return None


def held_back(weather: Weather, now_ns: int) -> str:
    """Why no build begins now; empty when one may."""
    if weather.trouble:
        return weather.trouble
    if weather.is_taken:
        return "another process builds an engine"
    if weather.is_loading:
        return "a model is being loaded"
    if now_ns < weather.quiet_until_ns:
        return "a model was just loaded"
    return ""


def after_failure(failures: int, now_ns: int) -> int:
    """When to try again after so many failures in a row; NEVER_NS to give up."""
    if failures >= ATTEMPTS:
        return NEVER_NS
    return now_ns + _DELAYS_NS[failures - 1]


def next_look(views: Sequence[View], weather: Weather, now_ns: int) -> int | None:
    """When to look again without being told; None where only an event changes anything.

    A build that runs is looked after every few seconds, because heat does not announce itself, one
    that waits for the weather more rarely; nothing else wakes up the device.
    """
    times = [
        one.retry_at_ns
        for one in views
        if one.phase is Phase.FAILED and one.is_wanted and one.retry_at_ns != NEVER_NS
    ]
    is_waiting = any(one.phase is Phase.WANTED and one.is_wanted for one in views)
    if any(one.phase is Phase.BUILDING for one in views):
        times.append(now_ns + LOOK_NS)
    elif is_waiting or any(one.phase is Phase.PAUSED for one in views):
        times.append(now_ns + PATIENT_NS)
    if is_waiting and not weather.is_loading:
        times.append(weather.quiet_until_ns)
    later = [at_ns for at_ns in times if at_ns > now_ns]
    return min(later) if later else None


LOOK_NS = 2_000_000_000
"""Heat rises by less than a degree meanwhile."""
PATIENT_NS = 15_000_000_000
"""A device that is hot or on battery for hours is woken up rarely; what waits can wait."""
