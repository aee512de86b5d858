"""What a CONNACK allows, and what holds where it says nothing."""

import pytest

from edged.protocol.mqtt_packets import Connack
from edged.protocol.mqtt_properties import Property
from edged.protocol.mqtt_terms import Terms
from edged.protocol.mqtt_writer import Hello

S = 1_000_000_000
HELLO = Hello("n", keep_alive_s=30, receive_maximum=64)


@pytest.mark.parametrize(
    ("said", "name", "value"),
    [
        ({}, "window", 64),
        ({Property.RECEIVE_MAXIMUM: 20}, "window", 20),
        ({Property.RECEIVE_MAXIMUM: 100}, "window", 64),
        ({Property.RECEIVE_MAXIMUM: 100}, "receive_maximum", 100),
        ({}, "announced_packet", None),
        ({}, "maximum_packet", (1 << 28) + 4),
        ({Property.MAXIMUM_PACKET_SIZE: 1000}, "maximum_packet", 1000),
        ({Property.MAXIMUM_PACKET_SIZE: 1000}, "announced_packet", 1000),
        ({Property.MAXIMUM_PACKET_SIZE: 0xFFFF_FFFF}, "maximum_packet", (1 << 28) + 4),
        ({}, "highest_qos", 2),
        ({Property.MAXIMUM_QOS: 0}, "highest_qos", 0),
        ({}, "takes_retained", True),
        ({Property.RETAIN_AVAILABLE: 0}, "takes_retained", False),
        ({}, "numbers_filters", True),
        ({Property.SUBSCRIPTION_IDS_AVAILABLE: 0}, "numbers_filters", False),
        ({}, "topic_aliases", 0),
        ({Property.TOPIC_ALIAS_MAXIMUM: 10}, "topic_aliases", 10),
        ({}, "ping_ns", 30 * S),
        ({Property.SERVER_KEEP_ALIVE: 10}, "ping_ns", 10 * S),
        ({Property.SERVER_KEEP_ALIVE: 60}, "ping_ns", 30 * S),
    ],
)
def test_what_it_says(said, name, value):
    assert getattr(Terms.of(Connack(False, 0, said), HELLO), name) == value


def test_a_broker_before_mqtt_5_has_no_words_for_it():
    terms = Terms.of(Connack(True, 0, {}), Hello("n", is_v5=False, keep_alive_s=0))
    assert (terms.numbers_filters, terms.topic_aliases, terms.ping_ns) == (False, 0, 0)


def test_before_it_said_anything():
    terms = Terms.before(HELLO)
    assert (terms.window, terms.ping_ns, terms.topic_aliases) == (64, 30 * S, 0)
