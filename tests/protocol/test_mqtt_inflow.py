"""Acknowledgements leave in order of arrival, whatever the order in which they are given back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.protocol.mqtt_inflow import Inflow
from edged.protocol.mqtt_packets import Publish
from edged.protocol.mqtt_rules import BrokenRuleError, Rule


def take(inflow, packet_id, qos=1, *, dup=False, is_v5=True):
    return inflow.take(packet_id, qos, dup=dup, is_v5=is_v5)


def refused(rule, act):
    with pytest.raises(BrokenRuleError) as caught:
        act()
    assert caught.value.rule is rule


def message(topic, alias):
    return Publish(0, topic, b"", 0, False, False, alias, {})


@given(st.permutations(range(1, 9)), st.lists(st.sampled_from([1, 2]), min_size=8, max_size=8))
def test_order_of_arrival(order, qualities):
    inflow, left = Inflow(8, 0, set()), {1: [], 2: []}
    for packet_id, qos in enumerate(qualities, 1):
        assert take(inflow, packet_id, qos)
    for packet_id in order:
        qos, answers = inflow.answer(packet_id)
        left[qos] += [number for number, _ in answers]
    for qos in (1, 2):
        assert left[qos] == [i for i, found in enumerate(qualities, 1) if found == qos]
    assert inflow.unacknowledged == qualities.count(2)  # until they are released


def test_what_is_answered_twice_or_was_never_there():
    inflow = Inflow(8, 0, set())
    take(inflow, 1), take(inflow, 2)
    assert inflow.answer(9) == (0, [])
    assert inflow.answer(2, 0x83) == (1, [])
    assert inflow.answer(2) == (1, [])
    assert inflow.answer(1) == (1, [(1, 0), (2, 0x83)])
    assert inflow.answer(1) == (0, [])


def test_the_receive_maximum_counts_what_is_not_released():
    inflow = Inflow(2, 0, set())
    take(inflow, 1, 2), take(inflow, 2)
    refused(Rule.PUBLISH_TOO_MANY, lambda: take(inflow, 3))
    inflow.answer(1)
    refused(Rule.PUBLISH_TOO_MANY, lambda: take(inflow, 3))
    assert inflow.release(1)
    assert take(inflow, 3)


def test_more_than_we_take_may_be_borne():
    """mosquitto 2.0.11 after it resumes a session."""
    inflow = Inflow(1, 0, set(), bears_excess=True)
    assert all(take(inflow, number) for number in (1, 2, 3))
    assert inflow.excess == 2
    assert "message 2 beyond the 1 that wait" in inflow.excess_words
    assert "MQTT-3.3.4-9" in inflow.excess_words


def test_an_identifier_that_is_in_use():
    inflow = Inflow(None, 0, set())
    take(inflow, 1)
    refused(Rule.PUBLISH_IN_USE, lambda: take(inflow, 1))
    refused(Rule.PUBLISH_IN_USE, lambda: take(inflow, 1, dup=True))
    assert not take(inflow, 1, dup=True, is_v5=False), "3.1.1 may send again at any time"
    inflow.answer(1)
    assert take(inflow, 1, dup=True), "MQTT-4.3.2-5: after PUBACK it is another message"


def test_exactly_once_over_two_connections():
    received = set()
    first = Inflow(8, 0, received)
    take(first, 5, 2), take(first, 6, 2)
    first.answer(5)
    refused(Rule.ACK_UNKNOWN, lambda: first.release(6))
    second = Inflow(8, 0, received)
    assert not take(second, 5, 2, dup=True), "its PUBREC left: it was given on"
    assert take(second, 6, 2, dup=True), "its PUBREC did not leave"
    refused(Rule.PUBLISH_IN_USE, lambda: take(second, 5, 2))
    assert second.release(5)
    assert not second.release(5)
    assert take(second, 5, 2)


def test_a_refused_message_of_qos_2_is_not_remembered():
    """MQTT-4.3.3: PUBREC with a failure ends it; the identifier is free."""
    inflow = Inflow(8, 0, set())
    take(inflow, 1, 2)
    inflow.answer(1, 0x83)
    assert take(inflow, 1, 2)


def test_aliases():
    inflow = Inflow(8, 2, set())
    assert inflow.topic(message("a", 0)) == "a"
    assert inflow.topic(message("a", 1)) == "a"
    assert inflow.topic(message("", 1)) == "a"
    assert inflow.topic(message("b", 1)) == "b"
    assert inflow.topic(message("", 1)) == "b"
    refused(Rule.PUBLISH_ALIAS_UNKNOWN, lambda: inflow.topic(message("", 2)))
    refused(Rule.PUBLISH_ALIAS_RANGE, lambda: inflow.topic(message("a", 3)))
