"""The line in front of the loader: what is loaded next, and who makes room for it.

Pure, with the time passed in. One load at a time, whoever is first in line: two that each hold
half of what they need would wait for each other for ever, and a second one would take the memory
that was cleared for the first. Who is first is not passed, or a large one never had its turn.
"""

from __future__ import annotations

import enum
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from edged.serving.memory.memory import Full, Ledger, Never, Resident, Room, plan_load

K = TypeVar("K", bound=Hashable)

PATIENCE_NS = 50_000_000
"""How long a load waits for others to fall idle by themselves. Then those that would have to go
start nothing new: one that is asked all the time would keep everybody else out for ever."""

_PASSED = 8
"""Who was passed so often by a higher rank goes first: where models go in and out all the time
there is always somebody asked for, and a reload would never end."""


class Rank(enum.IntEnum):
    """Who goes first; within a rank, who came first."""

    ASKED = 0
    """Requests wait for it."""
    PINNED = 1
    START = 2
    """Nobody waits but whoever started or reloaded the daemon."""


@dataclass(slots=True)
class Wish(Generic[K]):
    """One that wants to be loaded.

    Args:
        key: which one.
        rank: see ``Rank``.
        may_evict: whether others may go for it.
        need: bytes it takes at most while it loads; 0 while that is to be found out.
        is_proof_only: it is to be looked at, and not loaded.
        passed: how often others were begun that came later.
    """

    key: K
    rank: Rank
    may_evict: bool = True
    need: int = 0
    is_proof_only: bool = False
    passed: int = 0

    @property
    def place(self) -> int:
        """Its place in the line; of two with the same, the first goes first."""
        return -1 if self.passed >= _PASSED else self.rank


@dataclass(frozen=True, slots=True)
class Prove(Generic[K]):
    """Look at this one first, where it harms nobody: how much it needs is not known."""

    key: K


@dataclass(frozen=True, slots=True)
class Begin(Generic[K]):
    """Send these away, then load that one; it is charged already."""

    key: K
    victims: tuple[K, ...]


@dataclass(frozen=True, slots=True)
class LeaveOut(Generic[K]):
    """Not now: there is no room, and it may not send anybody away."""

    key: K


@dataclass(frozen=True, slots=True)
class Refuse(Generic[K]):
    """It cannot be: it needs more than there can be."""

    key: K
    need: int
    most: int


@dataclass(frozen=True, slots=True)
class Quiet(Generic[K]):
    """Let these finish what runs and start nothing new; ask again when one has."""

    keys: tuple[K, ...]


class AskAt(NamedTuple):
    """Ask again when something fell idle, or at this monotonic time."""

    at_ns: int


Step = Prove[K] | Begin[K] | LeaveOut[K] | Refuse[K] | Quiet[K] | AskAt


class LoadLine(Generic[K]):
    """See above.

    Args:
        ledger: of the device; charged here.
    """

    def __init__(self, ledger: Ledger[K]) -> None:
        self.ledger = ledger
        self._line: list[Wish[K]] = []
        self._current: Wish[K] | None = None
        self._blocked_since_ns = 0

    @property
    def current(self) -> K | None:
        """The one that is being looked at or loaded."""
        return None if self._current is None else self._current.key

    def waiting(self) -> list[K]:
        """Who stands in line, in order."""
        return [wish.key for wish in sorted(self._line, key=lambda wish: wish.place)]

    def ask(self, wish: Wish[K]) -> None:
        """Stand in line; not while it does already."""
        assert wish.key != self.current
        assert all(wish.key != other.key for other in self._line)
        self._line.append(wish)

    def leave(self, key: K) -> bool:
        """Leave the line; False when it is not there, because its load has begun."""
        before = len(self._line)
        self._line = [wish for wish in self._line if wish.key != key]
        return len(self._line) < before

    def is_short(self) -> bool:
        """Whether the next load finds no room as things are, so that who is there has a say."""
        wish = min(self._line, key=lambda wish: wish.place, default=None)
        return wish is not None and self.ledger.used + wish.need > self.ledger.budget

    def next_step(self, residents: Sequence[Resident[K]], now_ns: int) -> Step[K] | None:
        """What to do next; None when nothing is to be done before something ends.

        Args:
            residents: who takes memory now, in the ledger's order and by its sizes; not looked at
                unless ``is_short``.
            now_ns: monotonic clock, nanoseconds.
        """
        if self._current is not None or not self._line:
            return None
        wish = min(self._line, key=lambda wish: wish.place)
        if not wish.need:
            self._start(wish)
            return Prove(wish.key)
        plan = plan_load(wish.need, self.ledger.budget, residents, may_evict=wish.may_evict)
        if isinstance(plan, Room):
            self._start(wish)
            for key in plan.victims:
                self.ledger.give_back(key)
            self.ledger.take(wish.key, wish.need)
            return Begin(wish.key, plan.victims)
        if isinstance(plan, Full):
            self.leave(wish.key)
            return LeaveOut(wish.key)
        if isinstance(plan, Never):
            self.leave(wish.key)
            return Refuse(wish.key, wish.need, plan.most)
        self._blocked_since_ns = self._blocked_since_ns or now_ns
        if now_ns - self._blocked_since_ns >= PATIENCE_NS:
            return Quiet(plan.busy)
        return AskAt(self._blocked_since_ns + PATIENCE_NS)

    def proved(self, key: K, need: int) -> bool:
        """It was looked at, and needs so much.

        Returns:
            Whether that was all; else it stands in front of its rank again.
        """
        wish = self._ended(key)
        wish.need = max(need, 1)
        if not wish.is_proof_only:
            self._line.insert(0, wish)
        return wish.is_proof_only

    def loaded(self, key: K, held: int) -> None:
        """It is loaded, and holds so much."""
        self._ended(key)
        self.ledger.shrink(key, held)

    def failed(self, key: K) -> None:
        """It is not loaded, and holds nothing."""
        self._ended(key)
        self.ledger.give_back(key)

    def _start(self, wish: Wish[K]) -> None:
        for other in self._line[: self._line.index(wish)]:
            other.passed += 1
        self.leave(wish.key)
        self._current = wish
        self._blocked_since_ns = 0

    def _ended(self, key: K) -> Wish[K]:
        wish, self._current = self._current, None
        assert wish is not None
        assert wish.key == key
        return wish
