"""What a client sends: recorded bytes, and paho's for the same words."""

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edged.errors import LocalProtocolError
from edged.protocol import mqtt_wire as wire
from edged.protocol.broker_session import Publication
from edged.protocol.mqtt_writer import (
    PINGREQ,
    Hello,
    write_ack,
    write_connect,
    write_disconnect,
    write_publish_head,
    write_subscribe,
    write_unsubscribe,
)

WILL = Publication("s", b"off", qos=1, retain=True)


@pytest.mark.parametrize(
    ("hello", "written"),
    [
        (Hello("n", False, 60), b"\x10\x0d\x00\x04MQTT\x04\x00\x00\x3c\x00\x01n"),
        (
            Hello("n", False, 60, True, "u", "p", WILL),
            b"\x10\x1b\x00\x04MQTT\x04\xee\x00\x3c\x00\x01n\x00\x01s\x00\x03off\x00\x01u\x00\x01p",
        ),
        (
            Hello("n", True, 60),
            b"\x10\x13\x00\x04MQTT\x05\x00\x00\x3c\x05\x11\x00\x00\x00\x00\x00\x01n",
        ),
        (
            Hello("n", True, 60, will=WILL, session_expiry_s=60, receive_maximum=64,
                  maximum_packet_bytes=65536, topic_aliases=16),
            (
                b"\x10\x27\x00\x04MQTT\x05\x2c\x00\x3c\x10\x11\x00\x00\x00\x3c\x21\x00\x40"
                b"\x27\x00\x01\x00\x00\x22\x00\x10\x00\x01n\x00\x00\x01s\x00\x03off"
            ),
        ),
    ],
)  # fmt: skip
def test_connect(hello, written):
    assert write_connect(hello) == written


def test_publish():
    publication = Publication("t", b"hi", retain=True)
    assert write_publish_head(publication, 5, is_v5=False) == b"\x33\x07\x00\x01t\x00\x05"
    assert write_publish_head(publication, 5, is_v5=False, dup=True)[0] == 0x3B
    assert write_publish_head(publication, 5, is_v5=True) == b"\x33\x08\x00\x01t\x00\x05\x00"
    plain = Publication("t", b"hi", qos=0)
    assert write_publish_head(plain, 0, is_v5=False) == b"\x30\x05\x00\x01t"
    long = Publication("t", bytes(200), qos=0)
    assert write_publish_head(long, 0, is_v5=False) == b"\x30\xcb\x01\x00\x01t"


def test_the_properties_of_a_message_are_read_by_paho():
    publication = Publication("t", b"", 0, False, "application/json", b"c", 9, (("a", "b"),) * 20)
    head = write_publish_head(publication, 0, is_v5=True)
    properties = Properties(PacketTypes.PUBLISH)
    properties.unpack(head[6:])
    assert properties.ContentType == "application/json"
    assert properties.MessageExpiryInterval == 9
    assert properties.UserProperty == [("a", "b")] * 20


def test_acknowledgements():
    assert write_ack(wire.PUBACK, 258) == b"\x40\x02\x01\x02"
    assert write_ack(wire.PUBREC, 1) == b"\x50\x02\x00\x01"
    assert write_ack(wire.PUBREL, 1) == b"\x62\x02\x00\x01"
    assert write_ack(wire.PUBCOMP, 1, 0x92) == b"\x70\x03\x00\x01\x92"
    assert write_ack(wire.PUBCOMP, 1, 0x92, is_v5=False) == b"\x70\x02\x00\x01"


def test_subscriptions():
    wanted = [("a/#", 1), ("$share/g/b", 0)]
    assert write_subscribe(9, wanted, is_v5=False) == (
        b"\x82\x15\x00\x09\x00\x03a/#\x01\x00\x0a$share/g/b\x00"
    )
    # No Local with a shared subscription would be a protocol error [MQTT-3.8.3-4].
    assert write_subscribe(9, wanted, is_v5=True) == (
        b"\x82\x16\x00\x09\x00\x00\x03a/#\x25\x00\x0a$share/g/b\x20"
    )
    assert write_subscribe(9, wanted[:1], is_v5=True, takes_retained=True) == (
        b"\x82\x09\x00\x09\x00\x00\x03a/#\x05"
    )
    assert write_subscribe(9, wanted[:1], is_v5=True, number=200) == (
        b"\x82\x0c\x00\x09\x03\x0b\xc8\x01\x00\x03a/#\x25"
    )
    assert write_unsubscribe(9, ["a"], is_v5=False) == b"\xa2\x05\x00\x09\x00\x01a"
    assert write_unsubscribe(9, ["a"], is_v5=True) == b"\xa2\x06\x00\x09\x00\x00\x01a"


def test_the_shortest_ones():
    assert PINGREQ == b"\xc0\x00"
    assert write_disconnect() == b"\xe0\x00"
    assert write_disconnect(0x81) == b"\xe0\x01\x81"
    assert write_disconnect(0x81, is_v5=False) == b"\xe0\x00"


@pytest.mark.parametrize(
    "act",
    [
        lambda: write_connect(Hello("n", False, password="p")),
        lambda: write_connect(Hello("n", keep_alive_s=65536)),
        lambda: write_connect(Hello("n", session_expiry_s=1 << 32)),
        lambda: write_publish_head(Publication("a/#", b""), 1, is_v5=True),
        lambda: write_publish_head(Publication("", b""), 1, is_v5=True),
        lambda: write_publish_head(Publication("a", b""), 0, is_v5=True),
        lambda: write_publish_head(Publication("a", b"", qos=0), 1, is_v5=True),
        lambda: write_publish_head(Publication("a", b"", qos=0), 0, is_v5=True, dup=True),
        lambda: write_subscribe(1, [], is_v5=True),
        lambda: write_unsubscribe(1, [], is_v5=True),
    ],
)
def test_what_mqtt_cannot_say_is_refused_before_it_leaves(act):
    with pytest.raises(LocalProtocolError):
        act()
