"""The properties of MQTT 5: which packet may have which, how each is written, and its limits.

Sans I/O. Properties that we have no use for are checked and left out, so that ten thousand of them
cost time and no memory.
Source: MQTT 5.0, 2.2.2 and the tables of section 3.
"""

from __future__ import annotations

import enum
from typing import Any, Final, NamedTuple

from edged.protocol.mqtt_rules import BrokenRuleError, Rule
from edged.protocol.mqtt_wire import (
    AUTH,
    CONNACK,
    DISCONNECT,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBACK,
    UNSUBACK,
    Fields,
)


class Property(enum.IntEnum):
    """Identifiers, those of packets that a server sends and those that we send."""

    PAYLOAD_FORMAT = 0x01
    MESSAGE_EXPIRY = 0x02
    CONTENT_TYPE = 0x03
    RESPONSE_TOPIC = 0x08
    CORRELATION_DATA = 0x09
    SUBSCRIPTION_ID = 0x0B
    SESSION_EXPIRY = 0x11
    ASSIGNED_CLIENT_ID = 0x12
    SERVER_KEEP_ALIVE = 0x13
    AUTH_METHOD = 0x15
    AUTH_DATA = 0x16
    RESPONSE_INFORMATION = 0x1A
    SERVER_REFERENCE = 0x1C
    REASON_STRING = 0x1F
    RECEIVE_MAXIMUM = 0x21
    TOPIC_ALIAS_MAXIMUM = 0x22
    TOPIC_ALIAS = 0x23
    MAXIMUM_QOS = 0x24
    RETAIN_AVAILABLE = 0x25
    USER_PROPERTY = 0x26
    MAXIMUM_PACKET_SIZE = 0x27
    WILDCARDS_AVAILABLE = 0x28
    SUBSCRIPTION_IDS_AVAILABLE = 0x29
    SHARED_AVAILABLE = 0x2A


class Form(enum.Enum):
    """How a value is written."""

    BYTE = 1
    TWO = 2
    FOUR = 4
    LENGTH = "variable byte integer"
    TEXT = "text"
    BINARY = "binary"
    PAIR = "pair of texts"


class Spec(NamedTuple):
    """One property.

    Args:
        form: how it is written.
        packets: types of a server's packets that may have it.
        low: the smallest value, of numbers.
        high: the largest one.
        is_many: it may come more than once.
    """

    form: Form
    packets: frozenset[int]
    low: int = 0
    high: int = 0xFFFF_FFFF
    is_many: bool = False


_REASONED = frozenset(
    {CONNACK, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK, DISCONNECT, AUTH}
)
_IN_CONNACK, _IN_PUBLISH = frozenset({CONNACK}), frozenset({PUBLISH})

SPECS: Final[dict[int, Spec]] = {
    Property.PAYLOAD_FORMAT: Spec(Form.BYTE, _IN_PUBLISH, high=1),
    Property.MESSAGE_EXPIRY: Spec(Form.FOUR, _IN_PUBLISH),
    Property.CONTENT_TYPE: Spec(Form.TEXT, _IN_PUBLISH),
    Property.RESPONSE_TOPIC: Spec(Form.TEXT, _IN_PUBLISH),
    Property.CORRELATION_DATA: Spec(Form.BINARY, _IN_PUBLISH),
    Property.SUBSCRIPTION_ID: Spec(Form.LENGTH, _IN_PUBLISH, low=1, is_many=True),
    Property.SESSION_EXPIRY: Spec(Form.FOUR, frozenset({CONNACK, DISCONNECT})),
    Property.ASSIGNED_CLIENT_ID: Spec(Form.TEXT, _IN_CONNACK),
    Property.SERVER_KEEP_ALIVE: Spec(Form.TWO, _IN_CONNACK),
    Property.AUTH_METHOD: Spec(Form.TEXT, frozenset({CONNACK, AUTH})),
    Property.AUTH_DATA: Spec(Form.BINARY, frozenset({CONNACK, AUTH})),
    Property.RESPONSE_INFORMATION: Spec(Form.TEXT, _IN_CONNACK),
    Property.SERVER_REFERENCE: Spec(Form.TEXT, frozenset({CONNACK, DISCONNECT})),
    Property.REASON_STRING: Spec(Form.TEXT, _REASONED),
    Property.RECEIVE_MAXIMUM: Spec(Form.TWO, _IN_CONNACK, low=1),
    Property.TOPIC_ALIAS_MAXIMUM: Spec(Form.TWO, _IN_CONNACK),
    Property.TOPIC_ALIAS: Spec(Form.TWO, _IN_PUBLISH),  # 0 has a rule of its own
    Property.MAXIMUM_QOS: Spec(Form.BYTE, _IN_CONNACK, high=1),
    Property.RETAIN_AVAILABLE: Spec(Form.BYTE, _IN_CONNACK, high=1),
    Property.USER_PROPERTY: Spec(Form.PAIR, _REASONED | _IN_PUBLISH, is_many=True),
    Property.MAXIMUM_PACKET_SIZE: Spec(Form.FOUR, _IN_CONNACK, low=1),
    Property.WILDCARDS_AVAILABLE: Spec(Form.BYTE, _IN_CONNACK, high=1),
    Property.SUBSCRIPTION_IDS_AVAILABLE: Spec(Form.BYTE, _IN_CONNACK, high=1),
    Property.SHARED_AVAILABLE: Spec(Form.BYTE, _IN_CONNACK, high=1),
}

Values = dict[int, Any]
"""Identifier → value; subscription identifiers as a tuple, user properties not at all."""
NONE: Final[Values] = {}
SUBSCRIPTIONS_CAP: Final = 1024
"""So many subscription identifiers of one message are told; a broker sends one for each filter that
matches, and there are not more bindings."""

PROPERTIES_CAP: Final = 32_768
"""Of one packet. Each takes two millionths of a second and five bytes, so a packet as long as we
take could keep everybody waiting for a minute."""


def read_properties(fields: Fields) -> Values:
    """The properties of a packet, from their length to their last byte.

    Raises:
        BrokenRuleError: one does not belong here, is cut, repeated or out of its range, or there
            are too many.
    """
    size = fields.length()
    if not size:
        return NONE
    if size > fields.left:
        raise BrokenRuleError(Rule.FIELDS, f"{fields.name} whose properties are cut")
    packet_end = fields.end
    fields.end = fields.at + size
    values: Values = {}
    subscriptions: list[int] = []
    left = PROPERTIES_CAP
    while fields.left:
        left -= 1
        if left < 0:
            raise BrokenRuleError(
                Rule.PROPERTIES_MANY, f"{fields.name} with more than {PROPERTIES_CAP} properties"
            )
        number = fields.length()
        spec = SPECS.get(number)
        if spec is None or fields.kind not in spec.packets:
            raise BrokenRuleError(Rule.PROPERTY_KIND, f"{fields.name} with property 0x{number:02x}")
        if number in values and not spec.is_many:
            raise BrokenRuleError(Rule.PROPERTY_TWICE, f"{fields.name} with {_name(number)} twice")
        value = _read_value(fields, number, spec)
        if number == Property.SUBSCRIPTION_ID:
            if len(subscriptions) < SUBSCRIPTIONS_CAP:
                subscriptions.append(value)
        elif number != Property.USER_PROPERTY:
            values[number] = value
    fields.end = packet_end
    if subscriptions:
        values[Property.SUBSCRIPTION_ID] = tuple(subscriptions)
    return values


def _read_value(fields: Fields, number: int, spec: Spec) -> Any:
    form = spec.form
    if form is Form.TEXT:
        return fields.text()
    if form is Form.BINARY:
        return fields.binary()
    if form is Form.PAIR:
        return fields.text(), fields.text()
    value = fields.length() if form is Form.LENGTH else fields.number(form.value)
    if not spec.low <= value <= spec.high:
        raise BrokenRuleError(
            Rule.PROPERTY_VALUE,
            f"{fields.name} with {_name(number)} {value}",
        )
    return value


def _name(number: int) -> str:
    return Property(number).name.replace("_", " ").title()
