"""Whose batch starts next on a device: pure, with the time passed in.

Strict by class with a bound on how long a class may be kept waiting, or by weights; inside a class
the earliest deadline first, and in order of arrival where there is none. Nothing here starts
anything. Slots that a class reserves are what the classes below it leave free.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp
from typing import NamedTuple

RANKS = {"high": 0, "normal": 1, "low": 2}
"""The classes by their name; a smaller number goes first."""
NORMAL = RANKS["normal"]
CLASSES = tuple(RANKS)
NEVER_NS = 2**63
_LATELY_NS = 1_000_000_000
"""Long enough for some hundred runs that wait for slots, short enough to see a camera stop."""
_LEAST_LEFT = 0.005
"""A class that is left nothing still has a turn by the starvation bound."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How a device's slots are given out.

    Args:
        slots: runs at once.
        reserved: by class, so many of the slots are kept from the classes below it.
        starvation_ns: who has waited so long goes first, whatever its class.
        weights: by class, its share of the time of runs while several want it; None for strict.
        has_express: whether a short run may start beside the others when long ones have every
            slot.
    """

    slots: int
    reserved: tuple[int, ...] = (0, 0, 0)
    starvation_ns: int = NEVER_NS
    weights: tuple[int, ...] | None = None
    has_express: bool = False

    def usable(self, rank: int) -> int:
        """The most slots that a class can have at once."""
        return self.slots - sum(self.reserved[:rank])


class Want(NamedTuple):
    """Somebody who waits for a slot.

    Args:
        rank: of its class.
        due_ns: the first deadline of what it would run, monotonic nanoseconds; or NEVER_NS.
        since_ns: when it began to wait for a slot, monotonic nanoseconds.
        is_short: whether its run is short, so that it need not wait for long ones.
    """

    rank: int
    due_ns: int
    since_ns: int
    is_short: bool = True


class Held:
    """The runs that are under way on a device."""

    __slots__ = ("by_rank", "express", "short", "total")

    def __init__(self) -> None:
        self.total = 0
        """In slots."""
        self.short = 0
        """Of these."""
        self.by_rank = [0] * len(RANKS)
        """Of these."""
        self.express = 0
        """Beside the slots."""

    def add(self, run: Run, count: int = 1) -> None:
        """Begin or end (``count`` -1) a run."""
        if run.is_express:
            self.express += count
        else:
            self.total += count
            self.by_rank[run.rank] += count
            self.short += count * run.is_short


class Run(NamedTuple):
    """A run under way: its class, whether it is short, and whether it has no slot (express)."""

    rank: int
    is_short: bool = True
    is_express: bool = False


def fits(rank: int, held: Held, rules: Rules) -> bool:
    """Whether a slot is free that no class above reserves."""
    kept = sum(max(0, rules.reserved[r] - held.by_rank[r]) for r in range(rank))
    return rules.slots - held.total > kept


def may_start(rank: int, held: Held, rules: Rules, *, is_short: bool) -> bool:
    """Whether a class may begin one more run, in a slot or beside them."""
    if fits(rank, held, rules):
        return True
    return rules.has_express and is_short and not held.short and not held.express


def next_turn(
    wants: Sequence[Want],
    held: Held,
    rules: Rules,
    now_ns: int,
    used: Sequence[float] = (),
) -> int | None:
    """Choose who starts next.

    Args:
        wants: who waits, in any order.
        held: what runs.
        rules: of the device.
        now_ns: monotonic clock, nanoseconds.
        used: by class, the time of its runs over its weight; needed where there are weights.

    Returns:
        An index of ``wants``; None when none of them may start now.
    """
    able = [
        index
        for index, want in enumerate(wants)
        if may_start(want.rank, held, rules, is_short=want.is_short)
    ]
    if not able:
        return None
    starved = [i for i in able if now_ns - wants[i].since_ns >= rules.starvation_ns]
    if starved:
        return min(starved, key=lambda i: (wants[i].since_ns, wants[i].rank))
    if rules.weights is None:
        return min(able, key=lambda i: (wants[i].rank, wants[i].due_ns, wants[i].since_ns))
    return min(
        able,
        key=lambda i: (used[wants[i].rank], wants[i].rank, wants[i].due_ns, wants[i].since_ns),
    )


class Shares:
    """The time that each class has used, over its weight; a class that was away saves nothing up.

    Source: start-time fair queueing (Goyal et al. 1996): who comes back starts at the virtual time.
    """

    def __init__(self) -> None:
        self.used = [0.0] * len(RANKS)
        self._time = 0.0

    def charge(self, rank: int, run_ns: int, weights: Sequence[int]) -> None:
        """Note a run that ended."""
        self.used[rank] += run_ns / weights[rank]

    def want(self, rank: int) -> None:
        """Note that a class wants a run."""
        self.used[rank] = max(self.used[rank], self._time)

    def begin(self, rank: int, waiting: Iterable[int]) -> None:
        """Note that a run of a class begins, while these classes wait."""
        least = min(self.used[one] for one in (rank, *waiting))
        self._time = max(self._time, least)


class Loads:
    """How much of a device's time each class has used lately, by the time of its runs."""

    def __init__(self) -> None:
        self._used_ns = [0.0] * len(RANKS)
        self._at_ns = 0

    def add(self, rank: int, run_ns: int, now_ns: int) -> None:
        """Note a run that ended."""
        keep = exp((self._at_ns - now_ns) / _LATELY_NS)
        self._used_ns = [used_ns * keep for used_ns in self._used_ns]
        self._used_ns[rank] += run_ns
        self._at_ns = now_ns

    def left_for(self, rank: int, slots: int) -> float:
        """The share that the classes above leave; some, for what is used up now may be free soon.

        Args:
            rank: of the class.
            slots: of the device.
        """
        used = sum(self._used_ns[:rank]) / (_LATELY_NS * slots)
        return max(1.0 - used, _LEAST_LEFT)
