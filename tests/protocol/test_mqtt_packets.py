"""Every packet that a broker sends: recorded ones are read, those that break a clause are refused."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.protocol import mqtt_packets
from edged.protocol import mqtt_wire as wire
from edged.protocol.mqtt_packets import (
    Ack,
    Connack,
    Goodbye,
    Granted,
    Publish,
    check_kind,
    publish_identity,
    read_ack,
    read_connack,
    read_disconnect,
    read_empty,
    read_publish,
    read_suback,
    read_unsuback,
)
from edged.protocol.mqtt_properties import PROPERTIES_CAP, Property
from edged.protocol.mqtt_rules import BrokenRuleError, Rule
from edged.protocol.mqtt_wire import PacketReader
from tests.fakes.mqtt_bytes import CONNACK_V5, CONNACK_V311, VIOLATIONS

SESSION_RULES = {
    Rule.TOO_LARGE, Rule.CONNACK_FIRST, Rule.CONNACK_ONCE, Rule.PUBLISH_ALIAS_RANGE,
    Rule.PUBLISH_ALIAS_UNKNOWN, Rule.PUBLISH_IN_USE, Rule.PUBLISH_TOO_MANY, Rule.ACK_UNKNOWN,
    Rule.SUBACK_UNKNOWN, Rule.SUBACK_COUNT, Rule.UNSUBACK_COUNT, Rule.DISCONNECT_EARLY,
}  # fmt: skip
"""What a packet breaks by what came before it; see test_mqtt_session."""


def read(data, *, is_v5=True):
    """All packets of some bytes."""
    found = []
    for first, body, at, end in PacketReader().feed(data):
        if first & 0xF0 == wire.PUBLISH:
            found.append(read_publish(first, body, at, end, is_v5=is_v5))
            continue
        kind = check_kind(first, is_v5=is_v5)
        if kind == wire.CONNACK:
            found.append(read_connack(body, at, end, is_v5=is_v5))
        elif kind == wire.SUBACK:
            found.append(read_suback(body, at, end, is_v5=is_v5))
        elif kind == wire.UNSUBACK:
            found.append(read_unsuback(body, at, end, is_v5=is_v5))
        elif kind == wire.DISCONNECT:
            found.append(read_disconnect(body, at, end))
        elif kind == wire.PINGRESP:
            found.append(read_empty(kind, body, at, end))
        elif kind != wire.AUTH:
            found.append(read_ack(kind, body, at, end, is_v5=is_v5))
    return found


@pytest.mark.parametrize(
    ("is_v5", "data", "expected"),
    [
        (True, CONNACK_V5, Connack(False, 0, {0x22: 10})),
        (False, CONNACK_V311, Connack(False, 0, {})),
        (True, bytes.fromhex("2009010006210014220005"), Connack(True, 0, {0x21: 20, 0x22: 5})),
        (True, bytes.fromhex("2003008700"), Connack(False, 0x87, {})),
        (False, bytes.fromhex("20020005"), Connack(False, 0x87, {})),
        # A broker that speaks only 3.1.1, asked in MQTT 5
        (True, bytes.fromhex("20020001"), Connack(False, 0x84, {})),
        (False, b"\x30\x05\x00\x01thi", Publish(0, "t", b"hi", 0, False, False, 0, {})),
        (True, b"\x31\x06\x00\x01t\x00hi", Publish(0, "t", b"hi", 0, True, False, 0, {})),
        (False, b"\x3b\x05\x00\x01t\x01\x02", Publish(258, "t", b"", 1, True, True, 0, {})),
        (
            True,
            b"\x34\x0f\x00\x01t\x00\x07\x08\x0b\x07\x0b\xc0\x01\x23\x00\x05x",
            Publish(7, "t", b"x", 2, False, False, 5, {0x0B: (7, 192), 0x23: 5}),
        ),
        (
            True,
            (
                b"\x30\x27\x00\x01t\x22\x01\x01\x02\x00\x00\x00\x3c\x03\x00\x01j\x08\x00\x01r"
                b"\x09\x00\x02\x00\xff\x26\x00\x01k\x00\x01v\x26\x00\x01k\x00\x01w!"
            ),
            Publish(
                0, "t", b"!", 0, False, False, 0,
                {0x01: 1, 0x02: 60, 0x03: "j", 0x08: "r", 0x09: b"\0\xff"},
            ),
        ),
        (False, b"\x40\x02\x00\x05", Ack(5, 0, "")),
        (True, b"\x40\x02\x00\x05", Ack(5, 0, "")),
        (True, b"\x40\x03\x00\x05\x10", Ack(5, 0x10, "")),
        (True, b"\x40\x09\x00\x05\x87\x05\x1f\x00\x02no", Ack(5, 0x87, "no")),
        (True, b"\x50\x02\x00\x05\x62\x03\x00\x05\x92\x70\x04\x00\x05\x00\x00",
         [Ack(5, 0, ""), Ack(5, 0x92, ""), Ack(5, 0, "")]),
        (False, b"\x90\x05\x00\x05\x00\x01\x80", Granted(5, (0, 1, 0x80), "")),
        (True, b"\x90\x05\x00\x05\x00\x02\x87", Granted(5, (2, 0x87), "")),
        (False, b"\xb0\x02\x00\x05", Granted(5, (), "")),
        (True, b"\xb0\x05\x00\x05\x00\x00\x11", Granted(5, (0, 0x11), "")),
        (True, b"\xd0\x00", None),
        (True, b"\xe0\x00", Goodbye(0, "")),
        (True, b"\xe0\x01\x8e", Goodbye(0x8E, "")),
        (True, b"\xe0\x0c\x9d\x0a\x1c\x00\x01b\x1f\x00\x03off", Goodbye(0x9D, "off, b")),
    ],
)  # fmt: skip
def test_recorded_packets(is_v5, data, expected):
    assert read(data, is_v5=is_v5) == (expected if isinstance(expected, list) else [expected])


@pytest.mark.parametrize("violation", VIOLATIONS, ids=lambda found: found.rule.name)
@pytest.mark.parametrize("is_v5", [True, False])
def test_a_broken_clause_is_named(violation, is_v5):
    data = violation.v5 if is_v5 else violation.v311
    if not data or violation.rule in SESSION_RULES:
        return
    with pytest.raises(BrokenRuleError) as caught:
        read(data, is_v5=is_v5)
    assert caught.value.rule is violation.rule
    assert violation.rule.v5 in str(caught.value)
    assert violation.rule.v311 in str(caught.value)


def test_every_clause_has_bytes_that_break_it():
    broken = {violation.rule for violation in VIOLATIONS}
    assert broken | SESSION_RULES == set(Rule)
    for rule in Rule:
        # What 3.1.1 says too is broken in 3.1.1 too.
        if rule.v311 and rule not in SESSION_RULES:
            assert any(found.v311 for found in VIOLATIONS if found.rule is rule), rule


def test_a_message_whose_text_cannot_be_read_still_has_its_identifier():
    data = b"\x32\x06\x00\x01\xff\x00\x09\x00"
    ((first, body, at, end),) = PacketReader().feed(data)
    with pytest.raises(BrokenRuleError) as caught:
        read_publish(first, body, at, end, is_v5=True)
    assert caught.value.rule.spares
    assert publish_identity(first, body, at, end) == (1, 9)


def test_ten_thousand_user_properties_leave_nothing_behind():
    """10,000 user properties, alias misuse → bounded, connection policy documented."""
    many = b"\x26\x00\x01k\x00\x01v" * 10_000 + b"\x0b\x01" * (PROPERTIES_CAP - 10_000)
    body = b"\x00\x01t" + wire.encode_length(len(many)) + many + b"x"
    (found,) = read(b"\x30" + wire.encode_length(len(body)) + body)
    assert found.payload == b"x"
    assert list(found.properties) == [0x0B]
    assert len(found.properties[0x0B]) == 1024


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.sampled_from([v for found in VIOLATIONS for v in (found.v5, found.v311) if v]),
            st.builds(
                lambda first, body: bytes((first, len(body))) + body,
                st.integers(0, 255),
                st.binary(max_size=60),
            ),
        ),
        max_size=5,
    ).map(b"".join),
    st.booleans(),
)
def test_any_bytes_are_read_or_refused(data, is_v5):
    with contextlib.suppress(BrokenRuleError):  # and nothing else is ever raised
        read(data, is_v5=is_v5)


def with_properties(block, payload=b"p"):
    body = b"\0\1t" + block + payload
    return bytes((0x30, len(body))) + body


def test_properties_that_are_known_by_their_bytes_are_read_alike():
    mqtt_packets._short_blocks.clear()
    numbered, aliased = b"\x02\x0b\x05", b"\x03\x23\x00\x01"
    for _ in range(2):
        assert read(with_properties(numbered))[0].properties == {Property.SUBSCRIPTION_ID: (5,)}
        assert read(with_properties(aliased))[0].alias == 1
    assert set(mqtt_packets._short_blocks) == {numbered, aliased}


@pytest.mark.parametrize("block", [b"\x03\x23\x00\x00", b"\x02\x0b\x00", b"\x02\x11\x00"])
def test_properties_that_were_refused_are_refused_again(block):
    for _ in range(2):
        with pytest.raises(BrokenRuleError):
            read(with_properties(block))


def test_known_properties_of_a_packet_that_is_cut():
    read(with_properties(b"\x02\x0b\x05"))
    data = with_properties(b"\x02\x0b\x05", b"")
    with pytest.raises(BrokenRuleError) as caught:
        read_publish(0x30, data, 2, len(data) - 1, is_v5=True)
    assert caught.value.rule is Rule.FIELDS


def test_a_flood_of_properties_costs_no_memory():
    for number in range(1000):
        read(with_properties(b"\x05\x02" + number.to_bytes(4, "big")))
    assert len(mqtt_packets._short_blocks) <= mqtt_packets._BLOCKS_KEPT
