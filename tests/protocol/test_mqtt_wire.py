"""Packets are cut the same way however they arrive, and long ones are refused unread."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.errors import LocalProtocolError
from edged.protocol.mqtt_rules import BrokenRuleError, Rule
from edged.protocol.mqtt_wire import (
    LENGTH_CAP,
    PUBLISH,
    Fields,
    PacketReader,
    decode_text,
    encode_binary,
    encode_length,
    encode_text,
)

STREAM = b"\xd0\x00" + b"\x30\x03abc" + b"\x30\xac\x02" + bytes(300) + b"\xd0\x00"


def cut(reader, *pieces):
    return [
        (first, data[begin:end])
        for piece in pieces
        for first, data, begin, end in reader.feed(piece)
    ]


WHOLE = cut(PacketReader(), STREAM)


def test_what_is_in_a_stream():
    assert [(0xD0, b""), (0x30, b"abc"), (0x30, bytes(300)), (0xD0, b"")] == WHOLE


def test_byte_by_byte():
    reader = PacketReader()
    assert cut(reader, *(STREAM[i : i + 1] for i in range(len(STREAM)))) == WHOLE
    assert reader.waiting_bytes == 0


@given(st.lists(st.integers(0, len(STREAM)), max_size=6))
def test_cut_anywhere(places):
    ends = [0, *sorted(places), len(STREAM)]
    pieces = [STREAM[begin:end] for begin, end in itertools.pairwise(ends)]
    assert cut(PacketReader(), *pieces) == WHOLE


def test_a_large_packet_is_joined_once():
    reader = PacketReader()
    packet = b"\x30" + encode_length(1 << 20) + bytes(1 << 20)
    assert not cut(reader, *(packet[i : i + 1000] for i in range(0, 1_048_000, 1000)))
    assert len(reader._parts) > 1000
    assert reader.waiting_bytes > 1_000_000
    assert [len(body) for _, body in cut(reader, packet[1_048_000:])] == [1 << 20]


def test_a_packet_above_the_cap_is_refused_by_its_length():
    assert cut(PacketReader(12), b"\x30\x0a" + bytes(10)) == [(0x30, bytes(10))]
    with pytest.raises(BrokenRuleError, match="13 bytes, of 12 at most") as caught:
        cut(PacketReader(12), b"\x30\x0b")
    assert caught.value.rule is Rule.TOO_LARGE
    assert caught.value.rule.reason == 0x95


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0, "00"), (127, "7f"), (128, "8001"), (16383, "ff7f"), (16384, "808001"),
        (2097151, "ffff7f"), (2097152, "80808001"), (LENGTH_CAP, "ffffff7f"),
    ],
)  # fmt: skip
def test_lengths_of_the_specification(value, written):
    """Table 1-1 of MQTT 5.0."""
    data = bytes.fromhex(written)
    assert encode_length(value) == data
    assert Fields(data, 0, len(data), PUBLISH).length() == value


def test_what_cannot_be_said_is_refused_before_it_leaves():
    for act in (
        lambda: encode_length(LENGTH_CAP + 1),
        lambda: encode_binary(bytes(65536)),
        lambda: encode_text("a\0"),
        lambda: encode_text("\ud800"),
    ):
        with pytest.raises(LocalProtocolError):
            act()


def test_a_byte_order_mark_is_a_character():
    """MQTT-1.5.4-3: it is not stripped off."""
    assert decode_text(b"\xef\xbb\xbfa", "PUBLISH") == "\ufeffa"
