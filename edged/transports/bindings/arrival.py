"""A message that came in, and how much of its work is still open."""

from __future__ import annotations

import time
from collections import deque

from edged.protocol.broker_session import Message


class Arrival:
    """See above; the message is acknowledged when nothing is open any more."""

    __slots__ = ("is_shared", "message", "open_jobs")

    def __init__(self, message: Message) -> None:
        self.message = message
        self.is_shared = True  # until it is known to be nobody else's
        self.open_jobs = 1  # the hand-out itself, so that a quick job cannot end it too early

    def age_s(self) -> float:
        """Seconds since it came."""
        return round((time.monotonic_ns() - self.message.arrived_ns) / 1e9, 3)


def take_answered(order: deque[Arrival]) -> list[Arrival]:
    """Take off those whose work is done, as long as none before them is open."""
    found = []
    while order and not order[0].open_jobs:
        found.append(order.popleft())
    return found
