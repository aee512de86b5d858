"""Deadlines and what is left of an expiry."""

import time

import pytest

from edged.protocol.broker_session import Message
from edged.transports.bindings.time_left import (
    LONGEST_HOLD_NS,
    deadline_ns,
    has_expired,
    remaining_s,
)

S = 10**9


@pytest.mark.parametrize(
    ("expiry_s", "timeout_ns", "expected_ns"),
    [
        (None, 10 * S, 10 * S),
        (5, 10 * S, 5 * S),
        (0, 10 * S, 0),
        (4_000_000_000, 10 * S, LONGEST_HOLD_NS),
        (4_000_000_000, 600 * S, 600 * S),
    ],
)
def test_a_message_holds_its_place_for_a_bounded_time(expiry_s, timeout_ns, expected_ns):
    """mosquitto #3188: one missing PUBACK blocks other topics: local deadline on un-acked work."""
    message = Message(1, 1, "t", b"", 1, False, False, 1000, expiry_s=expiry_s)
    assert deadline_ns(message, timeout_ns) == 1000 + expected_ns


def test_what_is_left_of_an_expiry():
    now_ns = time.monotonic_ns()
    message = Message(1, 1, "t", b"", 1, False, False, now_ns - 3 * S, expiry_s=3)
    assert has_expired(message)
    assert remaining_s(message) == 1, "0 would mean no expiry at all to some brokers"
    assert 50 < remaining_s(message._replace(expiry_s=60)) <= 57
    assert not has_expired(message._replace(expiry_s=60))
    assert (
        has_expired(message._replace(expiry_s=None)),
        remaining_s(message._replace(expiry_s=None)),
    ) == (False, None)
