"""How long a broker is waited for that reads all, answers pings and acknowledges nothing.

Decides when it never will; whoever moves the bytes says what has arrived, and breaks it off.
"""

from __future__ import annotations

import fcntl
import struct
import termios

UNANSWERED_S = 120.0
"""A broker that reads all, answers pings and does not acknowledge for so long never will: what it
was sent, and what it sent itself, only gets on with another connection."""


class Patience:
    """With one connection."""

    def __init__(self) -> None:
        self._oldest: tuple[int, ...] = ()
        self._since_ns = self._said_bytes = 0

    @property
    def words(self) -> str:
        """Why the connection ends."""
        return f"the broker has not acknowledged what it was sent for {UNANSWERED_S:.0f} s"

    def begin(self, oldest: tuple[int, ...], now_ns: int, said_bytes: int) -> None:
        """Wait from now on.

        Args:
            oldest: what has waited longest for its word, of each kind.
            now_ns: monotonic clock.
            said_bytes: of all that was said so far, written or not.
        """
        self._oldest, self._since_ns, self._said_bytes = oldest, now_ns, said_bytes

    def waits_for(self, oldest: tuple[int, ...]) -> bool:
        """Whether it is this still that is waited for."""
        return bool(oldest) and oldest == self._oldest

    def has_ended(self, now_ns: int, arrived_bytes: int) -> bool:
        """Whether that was long enough.

        Args:
            now_ns: monotonic clock.
            arrived_bytes: so much of what was said is at the other side.
        """
        if arrived_bytes < self._said_bytes:
            self._since_ns = now_ns  # a slow network has it yet, and not the broker
        return now_ns - self._since_ns > UNANSWERED_S * 1e9


def queued_bytes(fileno: int) -> int:
    """What the system was given for a socket and has not brought to the other side."""
    queued = bytearray(4)
    fcntl.ioctl(fileno, termios.TIOCOUTQ, queued)
    return int(struct.unpack("i", queued)[0])
