"""Whose turn it is where the messages of one key must be worked on one after the other.

Pure: knows nothing of messages. Lines exist only while somebody stands in them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Protocol


class Goer(Protocol):
    """Somebody with work to do."""

    def go(self) -> None:
        """It is your turn; call ``leave`` when the next may go, also before this returns."""
        ...


class _Line:
    """One key's: who is at work, and who waits."""

    __slots__ = ("at_work", "is_moving", "waiting")

    def __init__(self) -> None:
        self.at_work: Goer | None = None
        self.waiting: deque[Goer] = deque()
        self.is_moving = False


class Lanes:
    """The lines of all keys. Used from the event loop only."""

    def __init__(self) -> None:
        self._lines: dict[Hashable, _Line] = {}

    def __len__(self) -> int:
        return len(self._lines)

    def enter(self, key: Hashable, goer: Goer) -> None:
        """Stand in line; ``go`` is called when the turn has come, maybe at once."""
        line = self._lines.setdefault(key, _Line())
        line.waiting.append(goer)
        self._move(key, line)

    def leave(self, key: Hashable, goer: Goer) -> None:
        """Let the next go; also for one whose turn has not come. Twice is once."""
        line = self._lines.get(key)
        if line is None:
            return
        if line.at_work is goer:
            line.at_work = None
            self._move(key, line)
        elif goer in line.waiting:
            line.waiting.remove(goer)

    def _move(self, key: Hashable, line: _Line) -> None:
        if line.is_moving:
            return  # a loop, for some work is done at once
        line.is_moving = True
        try:
            while line.at_work is None and line.waiting:
                line.at_work = line.waiting.popleft()
                line.at_work.go()
        finally:
            line.is_moving = False
        if line.at_work is None:
            del self._lines[key]
