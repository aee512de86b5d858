"""Deadlines; the endings of a job are tested in test_bindings.py, where they matter."""

import pytest

from edged.protocol.mqtt import Message
from edged.transports.work import LONGEST_HOLD_NS, _deadline_ns

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
    assert _deadline_ns(message, timeout_ns) == 1000 + expected_ns
