"""Each property a broker may send, in each packet that may have it, and in none that may not."""

import pytest

from edged.protocol import mqtt_wire as wire
from edged.protocol.mqtt_properties import NONE, SPECS, Form, Property, read_properties
from edged.protocol.mqtt_rules import BrokenRuleError, Rule
from edged.protocol.mqtt_wire import Fields

SERVERS = (
    wire.CONNACK, wire.PUBLISH, wire.PUBACK, wire.PUBREC, wire.PUBREL, wire.PUBCOMP,
    wire.SUBACK, wire.UNSUBACK, wire.DISCONNECT, wire.AUTH,
)  # fmt: skip
WRITTEN = {
    Form.BYTE: (b"\x01", 1),
    Form.TWO: (b"\x01\x02", 258),
    Form.FOUR: (b"\x00\x01\x00\x00", 65536),
    Form.LENGTH: (b"\xc8\x01", (200,)),
    Form.TEXT: (b"\x00\x02\xc3\xa9", "\u00e9"),
    Form.BINARY: (b"\x00\x02\xff\x00", b"\xff\x00"),
    Form.PAIR: (b"\x00\x01a\x00\x01b", None),
}


def read(body, kind):
    data = wire.encode_length(len(body)) + body + b"behind"
    fields = Fields(data, 0, len(data), kind)
    values = read_properties(fields)
    assert data[fields.at :] == b"behind"
    assert fields.end == len(data)
    return values


@pytest.mark.parametrize("number", list(Property))
def test_where_it_may_be_and_where_not(number):
    spec = SPECS[number]
    data, value = WRITTEN[spec.form]
    body = bytes((number,)) + data
    for kind in SERVERS:
        if kind in spec.packets:
            assert read(body, kind) == ({} if value is None else {number: value})
        else:
            with pytest.raises(BrokenRuleError) as caught:
                read(body, kind)
            assert caught.value.rule is Rule.PROPERTY_KIND


def test_none_costs_nothing():
    assert read(b"", wire.PUBLISH) is NONE


def test_those_that_may_come_often():
    body = b"\x0b\x01\x26\x00\x01a\x00\x01b\x0b\x02\x26\x00\x01a\x00\x01b"
    assert read(body, wire.PUBLISH) == {Property.SUBSCRIPTION_ID: (1, 2)}
