"""How much of what asks for nothing a client may send: PINGs, SETTINGS, resets, empty frames. Pure.

Each such frame costs its sender less than us, and none is limited by flow control. What a client
has left grows with time and with what it really asks for, so that no honest one ever notices.
"""

from __future__ import annotations

from edged.protocol.http2_frames import BrokenConnectionError, Reason


class Allowance:
    """Of one kind, of one connection.

    Args:
        what: of what, for the one who sent too much.
        most: how many at once.
        per_s: how many come back each second.
    """

    def __init__(self, what: str, most: int, per_s: int) -> None:
        self._what = what
        self._most = most
        self._per_s = per_s
        self._left = float(most)
        self._since_ns = 0

    def spend(self, now_ns: int) -> None:
        """Take one.

        Args:
            now_ns: monotonic clock, nanoseconds.

        Raises:
            BrokenConnectionError: none is left.
        """
        if self._left < 1:
            grown = (now_ns - self._since_ns) * self._per_s / 1e9
            self._left = min(self._most, self._left + grown)
            self._since_ns = now_ns
            if self._left < 1:
                raise BrokenConnectionError(Reason.ENHANCE_YOUR_CALM, f"too many {self._what}")
        elif self._left >= self._most:
            self._since_ns = now_ns
        self._left -= 1

    def earn(self, count: int = 1) -> None:
        """Something was really asked for."""
        self._left = min(self._most, self._left + count)
