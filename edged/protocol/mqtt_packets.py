"""The packets that a broker sends, read and held to the specification.

Sans I/O. Each reader takes a packet from behind its fixed header; what it means to a session is
``mqtt_session``'s.
Source: MQTT 5.0 and MQTT 3.1.1, section 3.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from edged.protocol.mqtt_properties import NONE, Property, Values, read_properties
from edged.protocol.mqtt_reasons import (
    FROM_V311,
    IN_CONNACK,
    IN_DISCONNECT,
    IN_PUBACK,
    IN_PUBREL,
    IN_SUBACK,
    IN_SUBACK_V311,
    IN_UNSUBACK,
)
from edged.protocol.mqtt_rules import BrokenRuleError, Rule
from edged.protocol.mqtt_wire import (
    AUTH,
    CONNACK,
    DISCONNECT,
    PINGRESP,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBACK,
    UNSUBACK,
    Fields,
    decode_text,
)

FLAGS: Final = {
    CONNACK: 0, PUBACK: 0, PUBREC: 0, PUBREL: 2, PUBCOMP: 0,
    SUBACK: 0, UNSUBACK: 0, PINGRESP: 0, DISCONNECT: 0, AUTH: 0,
}  # fmt: skip
"""What a server may send, PUBLISH apart, and the lower half of its first byte."""
V5_ONLY: Final = frozenset({DISCONNECT, AUTH})
_ACK_REASONS: Final = {PUBACK: IN_PUBACK, PUBREC: IN_PUBACK, PUBREL: IN_PUBREL, PUBCOMP: IN_PUBREL}


_new: Final = tuple.__new__
"""A named tuple's own makes a call more."""
_NOT_SHORT: Final = 9
_BLOCKS_KEPT: Final = 256
_short_blocks: dict[bytes, tuple[Values, int]] = {}
"""Properties by their bytes: all messages of a subscription have the same, its number, and to look
at them once more costs as much as the rest of the packet. They are never changed."""


_LONGEST_TOPIC_KEPT: Final = 256
_TOPICS_KEPT: Final = 4096
_topics: dict[bytes, str] = {}
"""Topics that were looked at; whoever invents any number of them costs others their place only."""


def _remember(block: bytes, properties: Values, alias: int) -> None:
    if len(_short_blocks) >= _BLOCKS_KEPT:
        _short_blocks.clear()
    _short_blocks[block] = (properties, alias)


class Connack(NamedTuple):
    """The answer to CONNECT; ``reason`` is one of MQTT 5 whatever the version."""

    session_present: bool
    reason: int
    properties: Values


class Publish(NamedTuple):
    """A message; ``packet_id`` is 0 for QoS 0, ``alias`` where there is none."""

    packet_id: int
    topic: str
    payload: bytes
    qos: int
    retain: bool
    dup: bool
    alias: int
    properties: Values


class Ack(NamedTuple):
    """PUBACK, PUBREC, PUBREL or PUBCOMP."""

    packet_id: int
    reason: int
    words: str


class Granted(NamedTuple):
    """SUBACK or UNSUBACK: a reason for each filter; none in an UNSUBACK of MQTT 3.1.1."""

    packet_id: int
    reasons: tuple[int, ...]
    words: str


class Goodbye(NamedTuple):
    """The server's DISCONNECT."""

    reason: int
    words: str


def check_kind(first: int, *, is_v5: bool) -> int:
    """The type of a packet that is not PUBLISH, in the upper half of a byte.

    Raises:
        BrokenRuleError: no server sends it, or not with these flags.
    """
    kind = first & 0xF0
    flags = FLAGS.get(kind)
    if flags is None or (not is_v5 and kind in V5_ONLY):
        is_reserved = kind == 0 or (not is_v5 and kind == AUTH)
        rule = Rule.KIND if is_reserved else Rule.KIND_SERVER
        raise BrokenRuleError(rule, f"a packet of type {kind >> 4}")
    if first & 0x0F != flags:
        raise BrokenRuleError(
            Rule.FLAGS, f"a packet of type {kind >> 4} with flags 0x{first & 0x0F:x}"
        )
    return kind


def read_connack(data: bytes, at: int, end: int, *, is_v5: bool) -> Connack:
    """CONNACK; raises BrokenRuleError."""
    fields = Fields(data, at, end, CONNACK)
    flags, reason = fields.byte(), fields.byte()
    if flags > 1:
        raise BrokenRuleError(Rule.CONNACK_FLAGS, f"CONNACK with flags 0x{flags:02x}")
    # A broker that does not know MQTT 5 refuses it in the words of 3.1.1, which end here.
    is_old = not is_v5 or (fields.left == 0 and reason in FROM_V311)
    properties = NONE if is_old else read_properties(fields)
    fields.finish()
    known = reason == 0 or reason in (FROM_V311 if is_old else IN_CONNACK)
    if not known:
        raise BrokenRuleError(Rule.CONNACK_REASON, f"CONNACK with reason code 0x{reason:02x}")
    if flags and reason:
        raise BrokenRuleError(Rule.CONNACK_PRESENT, "CONNACK that refuses and keeps a session")
    if Property.RESPONSE_INFORMATION in properties:
        raise BrokenRuleError(Rule.PROPERTY_UNASKED, "CONNACK with Response Information")
    if Property.AUTH_METHOD in properties or Property.AUTH_DATA in properties:
        raise BrokenRuleError(Rule.AUTH_UNASKED, "CONNACK with a method to log in")
    return Connack(bool(flags), FROM_V311[reason] if is_old and reason else reason, properties)


def read_publish(first: int, data: bytes, at: int, end: int, *, is_v5: bool) -> Publish:
    """PUBLISH; raises BrokenRuleError. A topic may be empty where there is an alias.

    This is the packet that a message costs, so its fields are read without a call for each.
    """
    qos = first >> 1 & 3
    if qos == 3:
        raise BrokenRuleError(Rule.PUBLISH_QOS, "PUBLISH with QoS 3")
    if not qos and first & 8:
        raise BrokenRuleError(Rule.PUBLISH_DUP, "PUBLISH of QoS 0 with DUP")
    begin = at + 2
    at = begin + int.from_bytes(data[at:begin], "big")
    if (behind := at + 2 if qos else at) > end or begin > end:
        raise BrokenRuleError(Rule.FIELDS, "PUBLISH that is cut")
    text = data[begin:at]
    topic = _topics[text] if text in _topics else _read_topic(text)
    packet_id = 0
    if qos:
        packet_id = data[at] << 8 | data[at + 1]
        if not packet_id:
            raise BrokenRuleError(Rule.PACKET_ID, "PUBLISH with packet identifier 0")
    at, properties, alias = behind, NONE, 0
    if is_v5:
        size = data[at] if at < end else _NOT_SHORT
        if size == 0:
            at += 1
        elif size < _NOT_SHORT and (known := _short_blocks.get(data[at : at + 1 + size])):
            properties, alias = known
            at += 1 + size
            if at > end:
                raise BrokenRuleError(Rule.FIELDS, "PUBLISH whose properties are cut")
        else:
            fields = Fields(data, at, end, PUBLISH)
            properties = read_properties(fields)
            alias = _check_publish(properties)
            if size < _NOT_SHORT:
                _remember(data[at : fields.at], properties, alias)
            at = fields.at
    if not topic and not alias:
        raise BrokenRuleError(Rule.PUBLISH_TOPIC, "PUBLISH without a topic")
    return _new(Publish, (
        packet_id, topic, data[at:end], qos, first & 1 == 1, first & 8 == 8, alias, properties
    ))  # fmt: skip


NO_WORDS: Final = (None, None, None, (), None)
"""What ``message_words`` gives where there are no properties."""


def message_words(properties: Values) -> tuple[Any, ...]:
    """What a ``Message`` tells of a PUBLISH's properties, in its order."""
    if len(properties) == 1 and Property.SUBSCRIPTION_ID in properties:  # as nearly all have
        return None, None, None, properties[Property.SUBSCRIPTION_ID], None
    get = properties.get
    return (
        get(Property.RESPONSE_TOPIC),
        get(Property.CORRELATION_DATA),
        get(Property.MESSAGE_EXPIRY),
        get(Property.SUBSCRIPTION_ID, ()),
        get(Property.CONTENT_TYPE),
    )


def _read_topic(text: bytes) -> str:
    topic = decode_text(text, "PUBLISH")
    if "#" in topic or "+" in topic:
        raise BrokenRuleError(Rule.PUBLISH_WILDCARD, f'PUBLISH to "{topic[:80]}"')
    if len(text) <= _LONGEST_TOPIC_KEPT:
        if len(_topics) >= _TOPICS_KEPT:
            _topics.clear()
        _topics[text] = topic
    return topic


def publish_identity(first: int, data: bytes, at: int, end: int) -> tuple[int, int]:
    """QoS and packet identifier of a PUBLISH whose text cannot be read; raises BrokenRuleError."""
    fields = Fields(data, at, end, PUBLISH)
    fields.binary()
    qos = first >> 1 & 3
    return qos, fields.packet_id() if qos else 0


def _check_publish(properties: Values) -> int:
    # Wildcards in a response topic are its sender's fault and not the broker's: whoever would
    # answer refuses them, and says so.
    alias = properties.get(Property.TOPIC_ALIAS)
    if alias == 0:
        raise BrokenRuleError(Rule.PUBLISH_ALIAS_ZERO, "PUBLISH with topic alias 0")
    return int(alias or 0)


def read_ack(kind: int, data: bytes, at: int, end: int, *, is_v5: bool) -> Ack:
    """PUBACK, PUBREC, PUBREL or PUBCOMP; raises BrokenRuleError."""
    if end - at == 2:  # as nearly all are: the identifier alone
        packet_id = data[at] << 8 | data[at + 1]
        if packet_id:
            return Ack(packet_id, 0, "")
    fields = Fields(data, at, end, kind)
    packet_id, reason, properties = fields.packet_id(), 0, NONE
    if is_v5 and fields.left:
        reason = fields.byte()
        properties = read_properties(fields) if fields.left else NONE
    fields.finish()
    if reason not in _ACK_REASONS[kind]:
        raise BrokenRuleError(Rule.ACK_REASON, f"{fields.name} with reason code 0x{reason:02x}")
    return Ack(packet_id, reason, properties.get(Property.REASON_STRING, ""))


def read_suback(data: bytes, at: int, end: int, *, is_v5: bool) -> Granted:
    """SUBACK; raises BrokenRuleError."""
    return _read_granted(
        Fields(data, at, end, SUBACK), IN_SUBACK if is_v5 else IN_SUBACK_V311, is_v5=is_v5
    )


def read_unsuback(data: bytes, at: int, end: int, *, is_v5: bool) -> Granted:
    """UNSUBACK; raises BrokenRuleError."""
    fields = Fields(data, at, end, UNSUBACK)
    if is_v5:
        return _read_granted(fields, IN_UNSUBACK, is_v5=True)
    packet_id = fields.packet_id()
    fields.finish()
    return Granted(packet_id, (), "")


def _read_granted(fields: Fields, known: frozenset[int], *, is_v5: bool) -> Granted:
    packet_id = fields.packet_id()
    properties = read_properties(fields) if is_v5 else NONE
    reasons = tuple(fields.data[fields.at : fields.end])
    for reason in reasons:
        if reason not in known:
            rule = Rule.SUBACK_REASON if fields.kind == SUBACK else Rule.UNSUBACK_REASON
            raise BrokenRuleError(rule, f"{fields.name} with reason code 0x{reason:02x}")
    return Granted(packet_id, reasons, properties.get(Property.REASON_STRING, ""))


def read_disconnect(data: bytes, at: int, end: int) -> Goodbye:
    """DISCONNECT of MQTT 5; raises BrokenRuleError."""
    fields = Fields(data, at, end, DISCONNECT)
    reason = fields.byte() if fields.left else 0
    properties = read_properties(fields) if fields.left else NONE
    fields.finish()
    if reason not in IN_DISCONNECT:
        raise BrokenRuleError(Rule.DISCONNECT_REASON, f"DISCONNECT with reason code 0x{reason:02x}")
    if Property.SESSION_EXPIRY in properties:
        raise BrokenRuleError(Rule.DISCONNECT_EXPIRY, "DISCONNECT with Session Expiry Interval")
    said = [
        properties[n]
        for n in (Property.REASON_STRING, Property.SERVER_REFERENCE)
        if n in properties
    ]
    return Goodbye(reason, ", ".join(said))


def read_empty(kind: int, data: bytes, at: int, end: int) -> None:
    """PINGRESP, which says nothing; raises BrokenRuleError."""
    Fields(data, at, end, kind).finish()
