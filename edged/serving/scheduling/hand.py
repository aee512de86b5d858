"""What is in hand of a device: the batch that begins when whichever run ends first.

The thread of that run lets it begin. Without it the loop has to see the end first: a quarter of a
millisecond or more in which a core has nothing to do, and the loop is in the way where it is busy.
Used from the loop and from the threads of runs: ``Claim`` says which of them has a batch.
"""

from __future__ import annotations

from collections.abc import Callable

Begin = Callable[[], None]


class Hand:
    """Holds one beginning, or none."""

    __slots__ = ("_begins",)

    def __init__(self) -> None:
        self._begins: list[Begin] = []

    def put(self, begin: Begin) -> None:
        """Let this be next, in place of what was."""
        self._begins[:] = [begin]

    def drop(self) -> None:
        """Let nothing be next."""
        self._begins.clear()

    def begin(self) -> None:
        """Let begin what is next, on the thread whose run has ended."""
        try:
            begin = self._begins.pop()
        except IndexError:
            return  # nothing is, or another thread was quicker
        begin()
