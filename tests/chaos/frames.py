"""What a tap reads off a wire of MQTT: the few packets that a promise is made of.

Pure, and written apart from the daemon's own reader, so that a mistake in that one is not made twice.
"""

from __future__ import annotations

from typing import NamedTuple

LARGEST = 1 << 20
_FIXED = {
    0x01: 1, 0x02: 4, 0x11: 4, 0x13: 2, 0x17: 1, 0x18: 4, 0x19: 1,
    0x21: 2, 0x22: 2, 0x23: 2, 0x24: 1, 0x25: 1, 0x27: 4, 0x28: 1, 0x29: 1, 0x2A: 1,
}  # fmt: skip
"""Bytes of the properties that are numbers; 0x0B is a number of one to four, the rest are text."""


class Hello(NamedTuple):
    """CONNECT."""

    is_v5: bool


class Publish(NamedTuple):
    """PUBLISH; ``packet_id`` is 0 for QoS 0."""

    packet_id: int
    topic: str
    payload: bytes
    is_dup: bool
    properties: dict[str, str]


class Ack(NamedTuple):
    """PUBACK."""

    packet_id: int
    reason: int


Packet = Hello | Publish | Ack


class Reader:
    """One direction of one connection; ``is_v5`` is told by the CONNECT of the other."""

    def __init__(self) -> None:
        self.is_v5 = True
        self._waiting = b""

    def feed(self, data: bytes) -> list[Packet]:
        """Packets that are whole by now; raises ValueError for what is no MQTT."""
        data = self._waiting + data
        at, found = 0, []
        while (head := _head(data, at)) is not None:
            begin, end = head
            if end > len(data):
                break
            packet = self._packet(data[at], data[begin:end])
            if packet is not None:
                found.append(packet)
            at = end
        self._waiting = data[at:]
        return found

    def _packet(self, first: int, body: bytes) -> Packet | None:
        kind = first >> 4
        if kind == 1:
            return Hello(body[6] == 5)
        if kind == 3:
            return self._publish(first, body)
        if kind == 4:
            return Ack(int.from_bytes(body[:2], "big"), body[2] if len(body) > 2 else 0)
        return None

    def _publish(self, first: int, body: bytes) -> Publish:
        size = int.from_bytes(body[:2], "big")
        topic, at = body[2 : 2 + size].decode(), 2 + size
        packet_id = 0
        if first >> 1 & 3:
            packet_id, at = int.from_bytes(body[at : at + 2], "big"), at + 2
        properties: dict[str, str] = {}
        if self.is_v5:
            size, at = _number(body, at)
            properties, at = user_properties(body[at : at + size]), at + size
        return Publish(packet_id, topic, body[at:], first & 8 == 8, properties)


def user_properties(data: bytes) -> dict[str, str]:
    """The pairs among the properties of a PUBLISH; raises ValueError for an unknown property."""
    found: dict[str, str] = {}
    at = 0
    while at < len(data):
        kind, at = data[at], at + 1
        if kind in _FIXED:
            at += _FIXED[kind]
        elif kind == 0x0B:
            at = _number(data, at)[1]
        elif kind in {0x03, 0x08, 0x09, 0x12, 0x15, 0x16, 0x1A, 0x1C, 0x1F, 0x26}:
            name, at = _text(data, at)
            if kind == 0x26:
                value, at = _text(data, at)
                found[name.decode()] = value.decode()
        else:
            raise ValueError(f"property 0x{kind:02x}")
    return found


def _text(data: bytes, at: int) -> tuple[bytes, int]:
    end = at + 2 + int.from_bytes(data[at : at + 2], "big")
    return data[at + 2 : end], end


def _number(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte, at = data[at], at + 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


def _head(data: bytes, at: int) -> tuple[int, int] | None:
    """Where a packet's body begins and ends, or None while that is not known."""
    for index in range(1, 5):
        if at + index >= len(data):
            return None
        if data[at + index] < 128:
            size, begin = _number(data, at + 1)
            if size > LARGEST:
                raise ValueError(f"a packet of {size} bytes")
            return begin, begin + size
    raise ValueError("a length without end")
