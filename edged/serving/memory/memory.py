"""Who may stay in a device's memory: what is promised to whom, and who has to go.

Pure: told what there is and who was asked for, and says what to do; nothing here loads or waits.
Sizes are bytes. An estimate is an upper bound, so that the sum of them never exceeds the budget.
Source: LRFU (Lee et al., 2001) for fading frequency, GDSF (Cherkasova, 1998) for value by bytes.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, NamedTuple, TypeVar

K = TypeVar("K", bound=Hashable)

HALF_LIFE = 200
"""After so many looks a use counts half. On Zipf traces of a hundred models any half-life from 200
on comes within 1.35 of the loads of an eviction that knows the future, and plain recency within
1.8. A longer one is slower to follow when favourites change: 1.42 with this, 1.6 without any."""
FIXED_COST = 8 << 20
"""What a load costs whatever it loads, in bytes: a session of a tiny model takes some 10 ms to
make, in which a large one moves so much. It lets small models stay before large ones."""


class Heat(Generic[K]):
    """How much each of them is asked for: how often, and how long ago.

    One that was used at all between two looks counts once, however often it was used: a thousand
    requests in a row need it in memory once.
    """

    def __init__(self, half_life: int = HALF_LIFE) -> None:
        self._fade = 2.0 ** (-1.0 / half_life)
        self._looks = 0
        self._counts: dict[K, int] = {}
        self._scores: dict[K, tuple[float, int]] = {}

    def look(self, counts: Mapping[K, int]) -> None:
        """Note who was used since the last look.

        Args:
            counts: requests of each so far; whoever is missing is forgotten.
        """
        self._looks += 1
        for key, count in counts.items():
            if count != self._counts.get(key, 0):
                self._scores[key] = (self.of(key) + 1.0, self._looks)
        self._scores = {key: known for key, known in self._scores.items() if key in counts}
        self._counts = dict(counts)

    def of(self, key: K) -> float:
        """Its uses, faded by their age."""
        score, looked = self._scores.get(key, (0.0, self._looks))
        return score * float(self._fade ** (self._looks - looked))


@dataclass(frozen=True, slots=True)
class Resident(Generic[K]):
    """One that takes memory now.

    Args:
        key: which one.
        size: bytes that it is charged for.
        heat: as ``Heat.of`` says.
        is_pinned: an operator wants it to stay.
        is_busy: it has work in flight, or is on its way in or out.
    """

    key: K
    size: int
    heat: float = 0.0
    is_pinned: bool = False
    is_busy: bool = False


def worth(one: Resident[K]) -> float:
    """What a byte of it is worth: the uses that would need a load, by what that load costs."""
    return one.heat * (FIXED_COST + one.size) / max(one.size, 1)


def choose_victims(need: int, residents: Iterable[Resident[K]]) -> tuple[K, ...] | None:
    """Who has to go, so that so many bytes become free.

    The least worth of a byte first; whoever turns out to be needless, because a larger one had to
    go as well, stays.

    Args:
        need: bytes, at least one.
        residents: the longest here first; of two that are worth the same the first goes.

    Returns:
        Keys; None when those that may go are not enough.
    """
    candidates = [one for one in residents if not (one.is_pinned or one.is_busy)]
    chosen: list[Resident[K]] = []
    freed = 0
    for one in sorted(candidates, key=worth):
        if freed >= need:
            break
        chosen.append(one)
        freed += one.size
    if freed < need:
        return None
    for one in reversed(chosen):  # the most worth first
        if freed - one.size >= need:
            chosen.remove(one)
            freed -= one.size
    return tuple(one.key for one in chosen)


@dataclass(frozen=True, slots=True)
class Room(Generic[K]):
    """There is room when these have gone."""

    victims: tuple[K, ...] = ()


@dataclass(frozen=True, slots=True)
class Wait(Generic[K]):
    """There will be room when some of these have nothing in flight."""

    busy: tuple[K, ...] = ()


class Full(NamedTuple):
    """There is none without sending somebody away, which this one may not."""


class Never(NamedTuple):
    """There cannot be: even with everybody gone who may go, so many bytes are too few."""

    most: int


Plan = Room[K] | Wait[K] | Full | Never


def plan_load(
    need: int, budget: int, residents: Sequence[Resident[K]], *, may_evict: bool
) -> Plan[K]:
    """Decide whether a load may begin.

    Args:
        need: bytes it takes at most while it loads.
        budget: of the device.
        residents: who takes memory of it now, the longest here first.
        may_evict: whether others may go for it.
    """
    free = budget - sum(one.size for one in residents)
    if need <= free:
        return Room()
    most = budget - sum(one.size for one in residents if one.is_pinned)
    if need > most:
        return Never(max(most, 0))
    if not may_evict:
        return Full()
    victims = choose_victims(need - free, residents)
    if victims is not None:
        return Room(victims)
    idle = [replace(one, is_busy=False) for one in residents]
    wanted = choose_victims(need - free, idle) or ()
    is_busy = {one.key for one in residents if one.is_busy}
    return Wait(tuple(key for key in wanted if key in is_busy))


_FEAR = 5
"""A bound that was not measured is so many times the model's files at most, and a bit."""


def charge(peak: int, budget: int, pinned: int, *, is_measured: bool) -> int:
    """What a load is charged for.

    A bound that nobody measured is no reason to refuse what may well fit: then it is all that can
    be had, unless not even the files would fit into that.

    Args:
        peak: what it takes at most.
        budget: of the device.
        pinned: what of that is never given back.
        is_measured: whether the bound was.
    """
    most = budget - pinned
    return peak if is_measured or most * _FEAR < peak else min(peak, most)


class Ledger(Generic[K]):
    """What is promised to whom of one device's memory.

    Args:
        budget: bytes; may be changed, also below what is promised now.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._sizes: dict[K, int] = {}

    @property
    def used(self) -> int:
        """Bytes that are promised."""
        return sum(self._sizes.values())

    @property
    def over(self) -> int:
        """Bytes by which the budget is exceeded: only ever after it was lowered."""
        return max(0, self.used - self.budget)

    def sizes(self) -> Mapping[K, int]:
        """Who has what, the longest here first."""
        return self._sizes

    def take(self, key: K, size: int) -> None:
        """Promise bytes to one that has none; there must be room."""
        assert key not in self._sizes, "it has some already"
        assert size <= self.budget - self.used, "there is no room for it"
        self._sizes[key] = size

    def shrink(self, key: K, size: int) -> None:
        """It takes no more than that; what is promised only falls."""
        self._sizes[key] = min(size, self._sizes[key])

    def hand_on(self, key: K, heir: K) -> None:
        """What one has is another's, who has given back its own."""
        assert heir not in self._sizes, "it has some already"
        self._sizes[heir] = self._sizes.pop(key)

    def give_back(self, key: K) -> None:
        """It takes nothing any more; fine for one that never did."""
        self._sizes.pop(key, None)
