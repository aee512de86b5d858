"""What became of messages: plain integers for the status page and the figures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class BindingCounters:
    """What became of one binding's messages; plain integers, written on the loop only."""

    received: int = 0
    answered: int = 0
    gathered: int = 0
    dead_lettered: int = 0
    expired: int = 0
    abandoned: int = 0
    duplicates: int = 0
    undeliverable: int = 0
    suppressed: int = 0
    in_flight: int = 0

    def as_dict(self) -> dict[str, int]:
        """For the status page."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(slots=True)
class SessionCounters:
    """What a session's messages came to; those that no binding owns, and all together."""

    unmatched: int = 0
    retained: int = 0
    dropped: int = 0
    early_acks: int = 0
    acknowledged: int = 0
    published: int = 0
    received_bytes: int = 0
    published_bytes: int = 0
