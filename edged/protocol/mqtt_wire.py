"""The bytes below every MQTT packet: lengths, numbers, text, and packets cut off a stream.

Sans I/O. What a packet says is ``mqtt_packets``'s, what we say ``mqtt_writer``'s.
Source: MQTT 5.0, sections 1.5 and 2.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from edged.errors import LocalProtocolError
from edged.protocol.mqtt_rules import BrokenRuleError, Rule

LENGTH_CAP: Final = 268_435_455
"""The longest remaining length: four bytes of seven bits."""
TEXT_CAP: Final = 65535
"""Text and binary data have a length of two bytes."""

CONNECT: Final = 0x10
CONNACK: Final = 0x20
PUBLISH: Final = 0x30
PUBACK: Final = 0x40
PUBREC: Final = 0x50
PUBREL: Final = 0x60
PUBCOMP: Final = 0x70
SUBSCRIBE: Final = 0x80
SUBACK: Final = 0x90
UNSUBSCRIBE: Final = 0xA0
UNSUBACK: Final = 0xB0
PINGREQ: Final = 0xC0
PINGRESP: Final = 0xD0
DISCONNECT: Final = 0xE0
AUTH: Final = 0xF0

NAMES: Final = {
    CONNECT: "CONNECT", CONNACK: "CONNACK", PUBLISH: "PUBLISH", PUBACK: "PUBACK",
    PUBREC: "PUBREC", PUBREL: "PUBREL", PUBCOMP: "PUBCOMP", SUBSCRIBE: "SUBSCRIBE",
    SUBACK: "SUBACK", UNSUBSCRIBE: "UNSUBSCRIBE", UNSUBACK: "UNSUBACK", PINGREQ: "PINGREQ",
    PINGRESP: "PINGRESP", DISCONNECT: "DISCONNECT", AUTH: "AUTH",
}  # fmt: skip
_SHORT: Final = tuple(
    bytes((number,) if number < 128 else (number & 0x7F | 0x80, number >> 7))
    for number in range(1024)
)
"""The lengths that nearly all packets have, as they are written."""


class PacketReader:
    """Cuts packets off a stream; the same packets however the stream was cut.

    Args:
        cap_bytes: the longest packet, fixed header included, that is taken. A longer one is refused
            by its length, before its bytes are kept.
    """

    __slots__ = ("_cap", "_parts", "_waiting", "_wanted")

    def __init__(self, cap_bytes: int = LENGTH_CAP + 5) -> None:
        self._cap = cap_bytes
        self._parts: list[bytes] = []
        self._waiting = 0
        self._wanted = 0

    @property
    def waiting_bytes(self) -> int:
        """Bytes of a packet that is not whole yet."""
        return self._waiting

    @property
    def missing_bytes(self) -> int:
        """What is still to come of that packet, as far as its length is known."""
        return max(0, self._wanted - self._waiting) if self._waiting else 0

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes, int, int]]:
        """Packets as (first byte, bytes, begin, end); those between are after the fixed header.

        Raises:
            BrokenRuleError: a length is impossible or too large.
        """
        if self._parts:
            self._parts.append(data)
            self._waiting += len(data)
            if self._waiting < self._wanted:
                return  # a large packet is joined once, when it is whole
            data = b"".join(self._parts)
            self._parts.clear()
        at, size = 0, len(data)
        wanted = 2
        while size - at >= 2:
            length = data[at + 1]
            begin = at + 2
            if length > 127:
                length, begin = self._length(data, at + 1)
                if begin < 0:
                    wanted = 0  # the length itself is cut
                    break
            end = begin + length
            if end - at > self._cap:
                raise BrokenRuleError(
                    Rule.TOO_LARGE, f"a packet of {end - at} bytes, of {self._cap} at most"
                )
            if end > size:
                wanted = end - at
                break
            yield data[at], data, begin, end
            at = end
        self._waiting, self._wanted = size - at, wanted
        if at < size:
            self._parts.append(data[at:] if at else data)

    @staticmethod
    def _length(data: bytes, at: int) -> tuple[int, int]:
        """A remaining length of several bytes and where it ends; -1 where it is cut."""
        value = 0
        for index in range(4):
            if at + index >= len(data):
                return 0, -1
            byte = data[at + index]
            value |= (byte & 0x7F) << 7 * index
            if byte < 128:
                if byte == 0:
                    raise BrokenRuleError(
                        Rule.LENGTH_SHORTEST, f"a length of {value} in {index + 1} bytes"
                    )
                return value, at + index + 1
        raise BrokenRuleError(Rule.LENGTH, "a remaining length of more than four bytes")


class Fields:
    """The fields of one packet, read from front to back.

    Args:
        data: bytes that hold the packet.
        at: where its variable header begins.
        end: where the packet ends.
        kind: the packet's type, for words.
    """

    __slots__ = ("at", "data", "end", "kind")

    def __init__(self, data: bytes, at: int, end: int, kind: int) -> None:
        self.data = data
        self.at = at
        self.end = end
        self.kind = kind

    @property
    def name(self) -> str:
        """The packet's name."""
        return NAMES[self.kind & 0xF0]

    @property
    def left(self) -> int:
        """Bytes that were not read yet."""
        return self.end - self.at

    def byte(self) -> int:
        """One byte."""
        at = self._step(1)
        return self.data[at]

    def number(self, size: int) -> int:
        """A number of so many bytes."""
        at = self._step(size)
        return int.from_bytes(self.data[at : at + size], "big")

    def length(self) -> int:
        """A variable byte integer."""
        value = 0
        for index in range(4):
            byte = self.byte()
            value |= (byte & 0x7F) << 7 * index
            if byte < 128:
                if byte == 0 and index:
                    raise BrokenRuleError(
                        Rule.LENGTH_SHORTEST, f"{self.name} with {value} in {index + 1} bytes"
                    )
                return value
        raise BrokenRuleError(Rule.LENGTH, f"{self.name} with a number of more than four bytes")

    def binary(self) -> bytes:
        """Binary data."""
        size = self.number(2)
        at = self._step(size)
        return self.data[at : at + size]

    def text(self) -> str:
        """A UTF-8 string."""
        return decode_text(self.binary(), self.name)

    def packet_id(self) -> int:
        """A packet identifier, which is not zero."""
        number = self.number(2)
        if not number:
            raise BrokenRuleError(Rule.PACKET_ID, f"{self.name} with packet identifier 0")
        return number

    def finish(self) -> None:
        """Nothing may be left."""
        if self.at != self.end:
            raise BrokenRuleError(Rule.FIELDS, f"{self.name} with {self.left} bytes too many")

    def _step(self, size: int) -> int:
        at = self.at
        if at + size > self.end:
            raise BrokenRuleError(Rule.FIELDS, f"{self.name} that is cut")
        self.at = at + size
        return at


def decode_text(data: bytes, name: str) -> str:
    """Text of a packet.

    Raises:
        BrokenRuleError: it is not well-formed, or holds U+0000.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as exc:
        raise BrokenRuleError(Rule.TEXT, f"{name} with text that is not UTF-8") from exc
    if "\0" in text:
        raise BrokenRuleError(Rule.TEXT_NUL, f"{name} with U+0000 in its text")
    return text


def encode_length(value: int) -> bytes:
    """A variable byte integer.

    Raises:
        LocalProtocolError: it is longer than a packet can be.
    """
    if 0 <= value < len(_SHORT):
        return _SHORT[value]
    if value > LENGTH_CAP:
        raise LocalProtocolError(f"{value} bytes do not fit into an MQTT packet of {LENGTH_CAP}")
    length = bytearray()
    while value > 127:
        length.append(value & 0x7F | 0x80)
        value >>= 7
    length.append(value)
    return bytes(length)


def encode_binary(data: bytes) -> bytes:
    """Binary data with its length in front.

    Raises:
        LocalProtocolError: it is too long.
    """
    if len(data) > TEXT_CAP:
        raise LocalProtocolError(f"{len(data)} bytes do not fit into an MQTT field of {TEXT_CAP}")
    return len(data).to_bytes(2, "big") + data


def encode_text(text: str) -> bytes:
    """A UTF-8 string with its length in front.

    Raises:
        LocalProtocolError: it is too long, or nothing that MQTT can say.
    """
    try:
        data = text.encode()
    except UnicodeEncodeError as exc:
        raise LocalProtocolError(f"{text!r} cannot be said in UTF-8") from exc
    if "\0" in text:
        raise LocalProtocolError(f"{text!r} holds U+0000, which MQTT text must not")
    return encode_binary(data)
