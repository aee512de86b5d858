"""How many answers of one request may leave now: agreed on between who makes them and who sends.

Whoever sends grants as the asker reads, and holds while the connection takes nothing; whoever makes
answers looks at ``has_room`` before each. Nothing here waits, and nothing is kept here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

MOST_AHEAD = 1024
"""Answers that an asker may leave unread: more would only move its memory's use to the daemon."""


class Flow:
    """One request's answers.

    Args:
        ahead: how many may be given before the asker says that it has read.
        patience_s: how long the asker may take none before the request is ended.
    """

    __slots__ = ("is_held", "left", "on_room", "patience_s")

    def __init__(self, ahead: int, patience_s: float) -> None:
        self.left = ahead
        self.patience_s = patience_s
        self.is_held = False
        self.on_room: Callable[[], None] | None = None
        """Called when there is room again; set by whoever makes the answers."""

    @property
    def has_room(self) -> bool:
        """Whether an answer may be given now."""
        return self.left > 0 and not self.is_held

    def give(self) -> None:
        """One answer is given."""
        self.left -= 1

    def grant(self, count: int) -> None:
        """The asker takes so many more; never more than it may leave unread."""
        self.left = min(self.left + count, MOST_AHEAD)
        self._tell()

    def free(self) -> None:
        """The asker cannot say any more that it has read: the connection alone decides."""
        self.left = sys.maxsize
        self._tell()

    def hold(self) -> None:
        """The connection takes nothing for now."""
        self.is_held = True

    def release(self) -> None:
        """It does again."""
        self.is_held = False
        self._tell()

    def _tell(self) -> None:
        if self.on_room is not None and self.has_room:
            self.on_room()
