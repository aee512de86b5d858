"""Who is to blame when a process that hosts several models dies, and who is kept apart for it.

Pure: told what was seen of each guest, and says whose doing it was.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

_GUEST = re.compile(rb"^  File .* in guest_(\d{1,9})$")


class Blame(enum.Enum):
    """What a death means for one model that lost its process by it."""

    OWN = "own"
    """It did it."""
    OTHER = "other"
    """Another one did."""
    UNCLEAR = "unclear"
    """Nobody knows: several were running, or none."""


class Guest(NamedTuple):
    """What was seen of one guest at the death.

    Args:
        number: which one.
        is_running: whether a load or a run of it was under way and not answered.
    """

    number: int
    is_running: bool


@dataclass(frozen=True, slots=True)
class Guilt:
    """Whose doing a death was.

    Args:
        culprit: the guest who did it; None when that is not known.
        suspects: of several that were running, one did it; empty where one is known or none ran.
    """

    culprit: int | None = None
    suspects: frozenset[int] = frozenset()

    def of(self, guest: int) -> Blame:
        """What it means for a guest."""
        if self.culprit is not None:
            return Blame.OWN if guest == self.culprit else Blame.OTHER
        if self.suspects:
            return Blame.UNCLEAR if guest in self.suspects else Blame.OTHER
        return Blame.UNCLEAR


def guilt(guests: Iterable[Guest], crashed: int | None = None) -> Guilt:
    """Decide whose doing it was.

    Args:
        guests: all that were there.
        crashed: whose thread the crash happened on, if the process could still say so. A guest
            that is not among them, or the process itself, proves nothing: a heap that one model
            ruined may fail another's hands.
    """
    guests = list(guests)
    if any(one.number == crashed for one in guests):
        return Guilt(crashed)
    running = frozenset(one.number for one in guests if one.is_running)
    if len(running) == 1:
        return Guilt(next(iter(running)))
    return Guilt(None, running)


def crashed_guest(report: bytes) -> int | None:
    """On whose thread a process crashed; see ``workers/host.py`` for how its stack tells.

    Args:
        report: what ``faulthandler`` said of the crash: the stack of the thread that crashed. It is
            the word of a process that came to harm, and may be anything.
    """
    crashed = None
    for line in report.splitlines():
        if found := _GUEST.match(line):
            crashed = int(found[1])  # the outermost one
    return crashed


class Suspicion:
    """Who lives alone because one of several did harm, and it is not known which.

    A suspect has a process of its own from its next load on: when that dies, it was it. Then the
    others of its group are beyond suspicion again.
    """

    def __init__(self) -> None:
        self._groups: list[frozenset[str]] = []

    def is_on(self, who: str) -> bool:
        """Whether it is to live alone."""
        return any(who in group for group in self._groups)

    def suspect(self, group: frozenset[str]) -> None:
        """One of these did it."""
        if len(group) > 1 and group not in self._groups:
            self._groups.append(group)

    def proven(self, who: str) -> None:
        """It was this one."""
        self._groups = [group for group in self._groups if who not in group]
