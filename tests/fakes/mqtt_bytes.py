"""Bytes as brokers send them, and as none may: one line for each clause that can be broken.

Packets of the first table were recorded from mosquitto or written by hand from the specification.
"""

from __future__ import annotations

from typing import NamedTuple

from edged.protocol.mqtt_properties import PROPERTIES_CAP
from edged.protocol.mqtt_rules import Rule
from edged.protocol.mqtt_wire import encode_length

CONNACK_V5 = bytes.fromhex("200600000322000a")
"""Of mosquitto 2.0.11: Topic Alias Maximum 10."""
CONNACK_V311 = bytes.fromhex("20020000")


def packet(first: int, body: bytes | str) -> bytes:
    """A short packet."""
    data = body.encode("latin-1") if isinstance(body, str) else body
    assert len(data) < 128
    return bytes((first, len(data))) + data


class Violation(NamedTuple):
    """What a broker sends and must not, after its CONNACK if ``is_later``."""

    rule: Rule
    v5: bytes = b""
    v311: bytes = b""
    is_later: bool = True


def _first(rule: Rule, v5: bytes = b"", v311: bytes = b"") -> Violation:
    return Violation(rule, v5, v311, is_later=False)


def _publish_many(count: int) -> bytes:
    block = b"\x0b\x01" * count
    body = b"\x00\x01t" + encode_length(len(block)) + block + b"x"
    return b"\x30" + encode_length(len(body)) + body


def _publish(properties: bytes, topic: bytes = b"\x00\x01t", first: int = 0x30) -> bytes:
    return packet(first, topic + bytes((len(properties),)) + properties + b"x")


VIOLATIONS = [
    # Any packet
    Violation(Rule.LENGTH, b"\x30\xff\xff\xff\xff\x01", b"\x30\xff\xff\xff\xff\x01"),
    Violation(Rule.LENGTH, _publish(b"\x0b\xff\xff\xff\xff\x01")),
    Violation(Rule.LENGTH_SHORTEST, b"\xd0\x80\x00", b"\xd0\x80\x00"),
    Violation(Rule.LENGTH_SHORTEST, _publish(b"\x0b\x81\x00")),
    Violation(Rule.KIND, b"\x00\x00", b"\x00\x00"),
    Violation(Rule.KIND, b"", b"\xf0\x00"),
    Violation(Rule.KIND_SERVER, b"\x10\x00", b"\x10\x00"),
    Violation(Rule.KIND_SERVER, b"\x82\x00", b"\x82\x00"),
    Violation(Rule.KIND_SERVER, b"\xa2\x00", b"\xa2\x00"),
    Violation(Rule.KIND_SERVER, b"\xc0\x00", b"\xc0\x00"),
    Violation(Rule.KIND_SERVER, b"", b"\xe0\x00"),
    *(
        Violation(Rule.FLAGS, packet(first, "\0\1"), packet(first, "\0\1"))
        for first in (0x21, 0x41, 0x52, 0x60, 0x61, 0x66, 0x7F, 0x92, 0xB1, 0xD1)
    ),
    Violation(Rule.FLAGS, b"\xe1\x00"),
    Violation(Rule.FLAGS, b"\xf1\x00"),
    Violation(Rule.FIELDS, b"\x30\x01\x00", b"\x30\x01\x00"),
    Violation(Rule.FIELDS, packet(0x30, "\0\5abc"), packet(0x30, "\0\5abc")),
    Violation(Rule.FIELDS, packet(0x32, "\0\1a\0"), packet(0x32, "\0\1a\0")),
    Violation(Rule.FIELDS, packet(0x30, "\0\1a"), b""),
    Violation(Rule.FIELDS, packet(0x30, "\0\1a\5x"), b""),
    Violation(Rule.FIELDS, _publish(b"\x02\x00\x00")),
    Violation(Rule.FIELDS, _publish(b"\x26\x00\x01a\x00\x05b")),
    Violation(Rule.FIELDS, b"\x40\x01\x00", b"\x40\x01\x00"),
    Violation(Rule.FIELDS, packet(0x40, "\0\1\0\0x"), packet(0x40, "\0\1\0")),
    Violation(Rule.FIELDS, packet(0x90, "\0\1"), b"\x90\x00"),
    Violation(Rule.FIELDS, packet(0xB0, "\0\1"), packet(0xB0, "\0\1\0")),
    Violation(Rule.FIELDS, b"\xd0\x01x", b"\xd0\x01x"),
    Violation(Rule.FIELDS, packet(0xE0, "\0\0x"), b""),
    _first(Rule.FIELDS, b"\x20\x01\x00", b"\x20\x01\x00"),
    _first(Rule.FIELDS, packet(0x20, "\0\0\0x"), packet(0x20, "\0\0\0")),
    Violation(Rule.PACKET_ID, packet(0x32, "\0\1a\0\0\0"), packet(0x34, "\0\1a\0\0")),
    *(
        Violation(Rule.PACKET_ID, packet(first, "\0\0"), packet(first, "\0\0"))
        for first in (0x40, 0x50, 0x62, 0x70)
    ),
    Violation(Rule.PACKET_ID, packet(0x90, "\0\0\0\0"), packet(0x90, "\0\0\0")),
    Violation(Rule.PACKET_ID, packet(0xB0, "\0\0\0\0"), packet(0xB0, "\0\0")),
    Violation(Rule.TEXT, packet(0x30, "\0\2\xc3(\0"), packet(0x30, "\0\2\xc3(")),
    Violation(Rule.TEXT, packet(0x30, "\0\3\xed\xa0\x80\0"), packet(0x30, "\0\3\xed\xa0\x80")),
    Violation(Rule.TEXT, _publish(b"\x03\x00\x01\xff")),
    Violation(Rule.TEXT, _publish(b"\x26\x00\x01a\x00\x01\xff")),
    Violation(Rule.TEXT_NUL, packet(0x30, "\0\2a\0\0"), packet(0x30, "\0\2a\0")),
    Violation(Rule.TEXT_NUL, _publish(b"\x08\x00\x01\x00")),
    # Properties
    Violation(Rule.PROPERTIES_MANY, _publish_many(PROPERTIES_CAP + 1)),
    Violation(Rule.PROPERTY_KIND, _publish(b"\x21\x00\x05")),
    Violation(Rule.PROPERTY_KIND, _publish(b"\x7f")),
    Violation(Rule.PROPERTY_KIND, packet(0x40, "\0\1\0\5\x02\0\0\0\1")),
    Violation(Rule.PROPERTY_KIND, packet(0xE0, "\0\3\x21\0\5")),
    _first(Rule.PROPERTY_KIND, packet(0x20, "\0\0\2\x01\0")),
    Violation(Rule.PROPERTY_TWICE, _publish(b"\x01\x00\x01\x00")),
    _first(Rule.PROPERTY_TWICE, packet(0x20, "\0\0\6\x21\0\5\x21\0\5")),
    Violation(Rule.PROPERTY_VALUE, _publish(b"\x01\x02")),
    Violation(Rule.PROPERTY_VALUE, _publish(b"\x0b\x00")),
    _first(Rule.PROPERTY_VALUE, packet(0x20, "\0\0\3\x21\0\0")),
    _first(Rule.PROPERTY_VALUE, packet(0x20, "\0\0\5\x27\0\0\0\0")),
    *(
        _first(Rule.PROPERTY_VALUE, packet(0x20, "\0\0\2" + name + "\2"))
        for name in ("\x24", "\x25", "\x28", "\x29", "\x2a")
    ),
    _first(Rule.PROPERTY_UNASKED, packet(0x20, "\0\0\4\x1a\0\1r")),
    # CONNACK
    *(_first(Rule.CONNACK_FIRST, first, first) for first in (b"\xd0\x00", b"\x30\x03\x00\x01t")),
    Violation(Rule.CONNACK_ONCE, CONNACK_V5, CONNACK_V311),
    _first(Rule.CONNACK_FLAGS, packet(0x20, "\2\0\0"), packet(0x20, "\x80\0")),
    _first(Rule.CONNACK_PRESENT, packet(0x20, "\1\x87\0"), packet(0x20, "\1\5")),
    _first(Rule.CONNACK_REASON, packet(0x20, "\0\x8b\0"), packet(0x20, "\0\6")),
    _first(Rule.CONNACK_REASON, packet(0x20, "\0\1\0"), packet(0x20, "\0\x87")),
    # PUBLISH
    Violation(Rule.PUBLISH_QOS, packet(0x36, "\0\1a\0\1\0"), packet(0x36, "\0\1a\0\1")),
    Violation(Rule.PUBLISH_DUP, packet(0x38, "\0\1a\0"), packet(0x38, "\0\1a")),
    Violation(Rule.PUBLISH_WILDCARD, packet(0x30, "\0\3a/#\0"), packet(0x30, "\0\1+")),
    Violation(Rule.PUBLISH_TOPIC, packet(0x30, "\0\0\0x"), packet(0x30, "\0\0x")),
    Violation(Rule.PUBLISH_ALIAS_ZERO, _publish(b"\x23\x00\x00")),
    # Acknowledgements
    Violation(Rule.ACK_REASON, packet(0x40, "\0\1\x92")),
    Violation(Rule.ACK_REASON, packet(0x62, "\0\1\x97")),
    Violation(Rule.SUBACK_REASON, packet(0x90, "\0\1\0\3"), packet(0x90, "\0\1\x87")),
    Violation(Rule.UNSUBACK_REASON, packet(0xB0, "\0\1\0\x10")),
    # The end, and logging in
    Violation(Rule.DISCONNECT_REASON, packet(0xE0, "\4")),
    Violation(Rule.DISCONNECT_REASON, packet(0xE0, "\x92")),
    Violation(Rule.DISCONNECT_EXPIRY, packet(0xE0, "\0\5\x11\0\0\0\1")),
    _first(Rule.AUTH_UNASKED, packet(0x20, "\0\0\4\x15\0\1m")),
]
"""Those that a packet breaks by itself; what a packet breaks by coming now is in the session's test."""
