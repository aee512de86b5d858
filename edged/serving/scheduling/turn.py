"""One turn of the event loop: what runs on the loop itself in it, over all models.

Each model bounds its own runs; a hundred of them together would still keep the sockets waiting. So
those that have something to run stand in one line, and a turn takes from it until its budget is
spent. What is left runs in the next turn, after whoever sent or read meanwhile had theirs. Where
models have classes, the line is in their order: runs on the loop are short, so always strictly.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from edged.serving.scheduling.precedence import NEVER_NS
from edged.system.cores import Stay

BUDGET_NS = 500_000
"""Inline work of one turn: as long as the longest single run that a model may do on the loop, so
that many models delay others no more than one does."""


_ALONE = 8
"""So many requests in a row by one asker, and nothing else meanwhile: it is the only one."""


class Runs(Protocol):
    """A release, as its turn sees it."""

    rank: int

    @property
    def due_ns(self) -> int:
        """The first deadline of what waits; ``precedence.NEVER_NS`` without one."""
        ...

    @property
    def expected_ns(self) -> int:
        """How long ``pump`` will hold up the loop, as far as one knows; 0 for work on a thread."""
        ...

    def pump(self) -> int:
        """Start or do what is next; returns for how long that held up the loop, nanoseconds."""
        ...


def fits(spent_ns: int, expected_ns: int, budget_ns: int) -> bool:
    """Whether a run may begin in this turn. The first always may, or it never would."""
    return spent_ns == 0 or spent_ns + expected_ns <= budget_ns


def in_order(
    line: Iterable[Runs], since: Mapping[Runs, int], now_ns: int, starvation_ns: int
) -> list[Runs]:
    """Who runs first: who waited too long, then by class, then by deadline, then by arrival.

    Args:
        line: in order of arrival.
        since: since when each waits, monotonic nanoseconds.
        now_ns: monotonic clock, nanoseconds.
        starvation_ns: what is too long.
    """

    def place(release: Runs) -> tuple[bool, int, int]:
        if now_ns - since[release] >= starvation_ns:
            return False, since[release], 0
        return True, release.rank, release.due_ns

    return sorted(line, key=place)


class Turn:
    """The line of those who have something to run; used from the event loop only."""

    def __init__(self, budget_ns: int = BUDGET_NS) -> None:
        self._budget_ns = budget_ns
        self._line: deque[Runs] = deque()
        self._is_called = False
        self.spills = 0
        """Turns that ended with work left over."""
        self._asked = 0
        self._asker: object = None
        self._asked_then = 0
        self._streak = 0
        self._is_overlooking = False
        self.is_ranked = False
        """Whether there are classes; while there are none, the order is that of arrival."""
        self.starvation_ns = NEVER_NS
        self._since: dict[Runs, int] = {}
        self.stay = Stay()
        """Ends when somebody else asks for anything."""

    def is_alone(self, asker: object, *, is_many: bool = False) -> bool:
        """Whether nobody but ``asker`` has asked for anything lately.

        Then nobody can be waiting to join its request, and it need not wait for the turn's end.
        One that is not alone is expected to ``ask`` for this request.

        Args:
            asker: who asks.
            is_many: whether several may ask as this one in a turn: of those behind the first the
                line hears nothing, for their release stands in it already.
        """
        if asker is not self._asker or self._asked != self._asked_then:
            self._asker, self._streak = asker, 0
            if self.stay.core >= 0:
                self.stay.leave()
        elif self._streak >= _ALONE and not self._line:
            return True
        self._streak += 1
        self._asked_then = self._asked + (0 if is_many and self._line else 1)
        return False

    def is_still_alone(self, asker: object) -> bool:
        """As ``is_alone``, for one that asks ``is_alone`` where the answer is no.

        Nothing is noted: noted twice, its one request would be another's, and it never alone again.
        """
        is_last = asker is self._asker and self._asked == self._asked_then
        return is_last and self._streak >= _ALONE and not self._line

    def overlook(self, ask: Callable[[], object]) -> None:
        """Let something be asked whom one that is alone need not heed: nobody waits for it."""
        asked, self._is_overlooking = self._asked, True
        try:
            ask()
        finally:
            self._is_overlooking = False
            self._asked_then += self._asked - asked

    def ask(self, release: Runs, loop: asyncio.AbstractEventLoop) -> None:
        """Stand in line; the turn comes when the loop has read what was sent until now."""
        self._line.append(release)
        self._asked += 1
        if self.stay.core >= 0 and not self._is_overlooking:
            self.stay.leave()
        if not self._is_called:
            self._is_called = True
            loop.call_soon(self._run, loop)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        if self.is_ranked:
            self._sort()
        line, spent_ns = self._line, 0
        try:
            # Not those that come meanwhile: a model with a full queue asks again after each batch.
            for _ in range(len(line)):
                if not fits(spent_ns, line[0].expected_ns, self._budget_ns):
                    self.spills += 1
                    break
                release = line.popleft()
                if self._since:
                    self._since.pop(release, None)
                spent_ns += release.pump()
        finally:
            # Also after a fault of one of them, or nobody would ever run again; the loop logs it.
            self._is_called = bool(line)
            if line:
                loop.call_soon(self._run, loop)

    def _sort(self) -> None:
        now_ns, before, line = time.monotonic_ns(), self._since, self._line
        # Only who was left over is known from before: all others came since the last turn.
        self._since = {release: before.get(release, now_ns) for release in line}
        if len(line) > 1:
            self._line = deque(in_order(line, self._since, now_ns, self.starvation_ns))
