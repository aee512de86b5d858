"""Packet identifiers and the broker's window."""

import pytest

from edged.protocol.broker_session import Publication
from edged.protocol.mqtt_outflow import Asked, Outflow
from edged.protocol.mqtt_rules import BrokenRuleError, Rule

AT_ONCE, CAREFUL = Publication("t", b"", qos=0), Publication("t", b"", qos=1)


def refused(rule, act):
    with pytest.raises(BrokenRuleError) as caught:
        act()
    assert caught.value.rule is rule


def test_order_is_kept_behind_a_full_window():
    outflow = Outflow(1)
    assert not outflow.must_wait(CAREFUL)
    outflow.sent(outflow.new_id(), 1)
    assert not outflow.must_wait(AT_ONCE)
    assert outflow.must_wait(CAREFUL)
    outflow.queue(2, CAREFUL)
    assert outflow.must_wait(AT_ONCE), "it must not overtake"
    outflow.queue(3, AT_ONCE)
    assert list(outflow.due()) == []
    assert outflow.waiting_bytes == CAREFUL.size_bytes + AT_ONCE.size_bytes
    assert outflow.acknowledged(1) == 1
    due = []
    for token, publication in outflow.due():
        due.append(token)
        if publication.qos:
            outflow.sent(outflow.new_id(), token)
    assert due == [2, 3]
    assert (len(outflow.waiting), outflow.unacknowledged) == (0, 1)
    assert outflow.waiting_bytes == 0


def test_identifiers_go_round_and_leave_out_what_is_in_use():
    outflow = Outflow(65535)
    assert outflow.new_id() == 1
    outflow.sent(1, 7)
    outflow.subscribing(2, Asked(8), ("a",))
    outflow.unsubscribing(3, 9, 1)
    outflow._last = 65534
    assert [outflow.new_id() for _ in range(3)] == [65535, 4, 5]
    for number in range(1, 65536):
        outflow.sent(number, 0)
    assert outflow.new_id() == 0


def test_what_waits_longest():
    outflow = Outflow(9)
    assert outflow.oldest == ()
    outflow.sent(1, 10)
    outflow.sent(2, 20)
    assert outflow.oldest == (1,)
    outflow.subscribing(3, Asked(1), ("a",))
    outflow.unsubscribing(4, 1, 1)
    assert outflow.oldest == (1, 3, 4)
    outflow.acknowledged(2)
    assert outflow.oldest == (1, 3, 4)
    outflow.acknowledged(1)
    assert outflow.oldest == (3, 4)


def test_what_nothing_waits_for():
    outflow = Outflow(1)
    refused(Rule.ACK_UNKNOWN, lambda: outflow.acknowledged(1))
    refused(Rule.SUBACK_UNKNOWN, lambda: outflow.subscribed(1, 1))
    refused(Rule.SUBACK_UNKNOWN, lambda: outflow.unsubscribed(1, None))


def test_a_reason_code_for_each_filter():
    outflow, asked = Outflow(1), Asked(5)
    outflow.subscribing(1, asked, ("a", "b"))
    outflow.subscribing(2, asked, ("c",))
    assert outflow.subscribed(1, 2) == (asked, ("a", "b"))
    assert asked.open_packets == 1
    refused(Rule.SUBACK_COUNT, lambda: outflow.subscribed(2, 2))
    outflow.unsubscribing(3, 9, 2)
    refused(Rule.UNSUBACK_COUNT, lambda: outflow.unsubscribed(3, 1))
    outflow.unsubscribing(3, 9, 2)
    assert outflow.unsubscribed(3, None) == 9
