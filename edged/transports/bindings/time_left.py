"""How long a message has: its own expiry, else its binding's time."""

from __future__ import annotations

import math
import time

from edged.protocol.broker_session import Message

LONGEST_HOLD_NS = 60 * 10**9
"""A message that waits for a busy model holds one of ``max_inflight`` places, so its own expiry is
not waited for longer than this."""


def deadline_ns(message: Message, timeout_ns: int) -> int:
    """Until when it is worked on, monotonic nanoseconds."""
    if message.expiry_s is None:
        return message.arrived_ns + timeout_ns
    hold_ns = max(timeout_ns, LONGEST_HOLD_NS)
    return message.arrived_ns + min(message.expiry_s * 10**9, hold_ns)


def has_expired(message: Message) -> bool:
    """Whether it is past its own expiry."""
    expiry_s, arrived_ns = message.expiry_s, message.arrived_ns
    return expiry_s is not None and time.monotonic_ns() >= arrived_ns + expiry_s * 10**9


def remaining_s(message: Message) -> int | None:
    """What is left of its expiry, for its answer; None where it has none."""
    if message.expiry_s is None:
        return None
    passed_s = (time.monotonic_ns() - message.arrived_ns) / 1e9
    return max(1, math.ceil(message.expiry_s - passed_s))
