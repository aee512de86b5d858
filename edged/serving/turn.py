"""One turn of the event loop: what runs on the loop itself in it, over all models.

Each model bounds its own runs; a hundred of them together would still keep the sockets waiting. So
those that have something to run stand in one line, and a turn takes from it until its budget is
spent. What is left runs in the next turn, after whoever sent or read meanwhile had theirs.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

BUDGET_NS = 500_000
"""Inline work of one turn: as long as the longest single run that a model may do on the loop, so
that many models delay others no more than one does."""


_ALONE = 8
"""So many requests in a row by one asker, and nothing else meanwhile: it is the only one."""


class Runs(Protocol):
    """A release, as its turn sees it."""

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

    def is_alone(self, asker: object) -> bool:
        """Whether nobody but ``asker`` has asked for anything lately.

        Then nobody can be waiting to join its request, and it need not wait for the turn's end.
        One that is not alone is expected to ``ask`` for this request.
        """
        if asker is not self._asker or self._asked != self._asked_then:
            self._asker, self._streak = asker, 0
        elif self._streak >= _ALONE and not self._line:
            return True
        self._streak += 1
        self._asked_then = self._asked + 1
        return False

    def ask(self, release: Runs, loop: asyncio.AbstractEventLoop) -> None:
        """Stand in line; the turn comes when the loop has read what was sent until now."""
        self._line.append(release)
        self._asked += 1
        if not self._is_called:
            self._is_called = True
            loop.call_soon(self._run, loop)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        line, spent_ns = self._line, 0
        # Not those that come meanwhile: a model with a full queue asks again after each batch.
        for _ in range(len(line)):
            if not fits(spent_ns, line[0].expected_ns, self._budget_ns):
                self.spills += 1
                break
            spent_ns += line.popleft().pump()
        self._is_called = bool(line)
        if line:
            loop.call_soon(self._run, loop)
