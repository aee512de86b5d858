"""What waits to be written on a connection, and what is told when it has left.

Sans I/O. Acknowledgements of messages are nobody's hurry: they leave with whatever is said next.
"""

from __future__ import annotations

from edged.protocol.broker_session import SessionEvent


class Outgoing:
    """Bytes in order, and events behind them.

    Args:
        first: what is said first.
    """

    __slots__ = ("_later", "_parts", "acks", "is_urgent", "size_bytes")

    def __init__(self, first: bytes) -> None:
        self._parts = [first]
        self._later: list[SessionEvent] = []
        self.size_bytes = len(first)
        self.acks = 0
        """Acknowledgements among what waits."""
        self.is_urgent = True
        """Whether anything else is."""

    def say(self, data: bytes) -> None:
        """Write it behind all that waits."""
        self._parts.append(data)
        self.size_bytes += len(data)
        self.is_urgent = True

    def acknowledge(self, data: bytes, count: int = 1) -> None:
        """Likewise so many acknowledgements, without any hurry."""
        self._parts.append(data)
        self.size_bytes += len(data)
        self.acks += count

    def tell(self, event: SessionEvent) -> None:
        """An event for when this has left; never at once, for the caller awaits its token."""
        self._later.append(event)
        self.is_urgent = True

    def __bool__(self) -> bool:
        return bool(self._parts or self._later)

    def take(self) -> bytes:
        """All bytes, which are gone from here then."""
        parts = self._parts
        data = b"".join(parts) if len(parts) != 1 else parts[0]
        parts.clear()
        self.size_bytes = self.acks = 0
        self.is_urgent = False
        return data

    def due(self) -> list[SessionEvent]:
        """The events of what was taken, which are gone from here then."""
        later = self._later
        if later:
            self._later = []
        return later
