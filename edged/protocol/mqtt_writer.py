"""The packets that a client sends.

Sans I/O. Whoever asks for what MQTT cannot say is told so before a byte leaves.
Source: MQTT 5.0 and MQTT 3.1.1, section 3.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from edged.errors import LocalProtocolError
from edged.protocol import mqtt_wire as wire
from edged.protocol.broker_session import Publication
from edged.protocol.mqtt import encode_properties, is_shared
from edged.protocol.mqtt_properties import Property
from edged.protocol.mqtt_wire import encode_binary, encode_length, encode_text

PINGREQ: Final = b"\xc0\x00"
NORMAL: Final = 0x00
_NO_LOCAL, _NEVER_RETAINED = 0x04, 0x20
"""Subscription options: not our own messages, and none that were kept from before."""
_LONGEST_KEPT: Final = 256
NO_TOPIC: Final = b"\0\0"
_FIRST: Final = tuple(bytes((number,)) for number in range(256))


@dataclass(frozen=True, slots=True)
class Hello:
    """What CONNECT says.

    Args:
        is_v5: MQTT 5, else 3.1.1.
        keep_alive_s: 0 to 65535.
        clean_start: forget the session that the broker may have.
        will: published by the broker when we vanish.
        session_expiry_s: how long the broker keeps our session; of MQTT 5, as the following.
        receive_maximum: messages of QoS 1 and 2 to us that may be unacknowledged.
        most_sent: those of ours that may be; None = as many.
        maximum_packet_bytes: longer packets are not sent to us; None = no limit.
        topic_aliases: so many topics may be given a number.
        takes_retained: whether SUBSCRIBE asks for what was kept from before, too.
    """

    client_id: str
    is_v5: bool = True
    keep_alive_s: int = 30
    clean_start: bool = False
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    will: Publication | None = None
    session_expiry_s: int = 0
    receive_maximum: int = 65535
    maximum_packet_bytes: int | None = None
    topic_aliases: int = 0
    takes_retained: bool = False
    most_sent: int | None = None

    @property
    def window(self) -> int:
        """Messages of ours that may be unacknowledged, where the broker takes so many."""
        return self.receive_maximum if self.most_sent is None else self.most_sent


def write_connect(hello: Hello) -> bytes:
    """CONNECT; raises LocalProtocolError."""
    if hello.password is not None and hello.username is None and not hello.is_v5:
        raise LocalProtocolError("MQTT 3.1.1 takes no password without a user name [MQTT-3.1.2-22]")
    if not 0 <= hello.keep_alive_s <= 0xFFFF:
        raise LocalProtocolError(f"a keep alive of {hello.keep_alive_s} s; MQTT has 0 to 65535")
    will = hello.will
    flags = 2 if hello.clean_start else 0
    parts = [encode_text(hello.client_id)]
    if will is not None:
        flags |= 4 | will.qos << 3 | will.retain << 5
        if hello.is_v5:
            parts.append(encode_properties(will))
        parts += [encode_topic(will.topic), encode_binary(will.payload)]
    if hello.username is not None:
        flags |= 0x80
        parts.append(encode_text(hello.username))
    if hello.password is not None:
        flags |= 0x40
        parts.append(encode_binary(hello.password.encode()))
    head = b"\x00\x04MQTT" + bytes((5 if hello.is_v5 else 4, flags))
    head += hello.keep_alive_s.to_bytes(2, "big")
    if hello.is_v5:
        head += _hello_properties(hello)
    return _packet(wire.CONNECT, head + b"".join(parts))


def _hello_properties(hello: Hello) -> bytes:
    body = _number(Property.SESSION_EXPIRY, hello.session_expiry_s, 4)
    if hello.receive_maximum < 0xFFFF:
        body += _number(Property.RECEIVE_MAXIMUM, hello.receive_maximum, 2)
    if hello.maximum_packet_bytes is not None:
        body += _number(Property.MAXIMUM_PACKET_SIZE, hello.maximum_packet_bytes, 4)
    if hello.topic_aliases:
        body += _number(Property.TOPIC_ALIAS_MAXIMUM, hello.topic_aliases, 2)
    return encode_length(len(body)) + body


def _number(identifier: Property, value: int, size: int) -> bytes:
    try:
        return bytes((identifier,)) + value.to_bytes(size, "big")
    except OverflowError as exc:
        raise LocalProtocolError(
            f"{identifier.name}: {value} does not fit into {size} bytes"
        ) from exc


def encode_topic(topic: str) -> bytes:
    """A topic to publish to; raises LocalProtocolError for one that nobody may publish to."""
    return _known_topic(topic) if len(topic) <= _LONGEST_KEPT else _checked_topic(topic)


def _checked_topic(topic: str) -> bytes:
    if not topic or "#" in topic or "+" in topic:
        raise LocalProtocolError(f'"{topic}" is no topic to publish to: empty, or with # or +')
    return encode_text(topic)


_known_topic = functools.lru_cache(maxsize=4096)(_checked_topic)
"""A message costs this once; those who invent topics cost each other's place."""


def write_publish_head(
    publication: Publication,
    packet_id: int,
    *,
    is_v5: bool,
    dup: bool = False,
    alias: int = 0,
    is_known: bool = False,
) -> bytes:
    """PUBLISH up to its payload, which follows; raises LocalProtocolError.

    Args:
        publication: what to send; its MQTT 5 parts are left out before it.
        packet_id: 0 for QoS 0.
        is_v5: of this connection.
        dup: sent before, on a connection that is gone.
        alias: the topic's number on this connection; 0 = none.
        is_known: the broker knows it already, so that the topic itself is left out.
    """
    qos = publication.qos
    if (qos > 0) != (packet_id > 0) or (dup and not qos):
        raise LocalProtocolError(f"QoS {qos} with packet identifier {packet_id}, dup {dup}")
    head = encode_topic(publication.topic) if not is_known else NO_TOPIC
    if qos:
        head += packet_id.to_bytes(2, "big")
    if is_v5:
        head += encode_properties(publication, alias)
    first = wire.PUBLISH | dup << 3 | qos << 1 | publication.retain
    return _FIRST[first] + encode_length(len(head) + len(publication.payload)) + head


def write_ack(kind: int, packet_id: int, reason: int = 0, *, is_v5: bool = True) -> bytes:
    """PUBACK, PUBREC, PUBREL or PUBCOMP; the reason is left out before MQTT 5."""
    first = kind | (2 if kind == wire.PUBREL else 0)
    if reason and is_v5:
        return bytes((first, 3, packet_id >> 8, packet_id & 0xFF, reason))
    return bytes((first, 2, packet_id >> 8, packet_id & 0xFF))


def write_subscribe(
    packet_id: int,
    filters: Sequence[tuple[str, int]],
    *,
    is_v5: bool,
    number: int | None = None,
    takes_retained: bool = False,
) -> bytes:
    """SUBSCRIBE; with MQTT 5 without our own messages and without retained ones.

    Args:
        packet_id: not zero.
        filters: each with its QoS; one at least.
        is_v5: of this connection.
        number: the subscription identifier, where the broker takes them.
        takes_retained: what the broker kept from before is wanted all the same.

    Raises:
        LocalProtocolError: a filter cannot be said.
    """
    if not filters:
        raise LocalProtocolError("SUBSCRIBE without a filter [MQTT-3.8.3-2]")
    body = packet_id.to_bytes(2, "big")
    if is_v5:
        named = (
            b"" if number is None else bytes((Property.SUBSCRIPTION_ID,)) + encode_length(number)
        )
        body += encode_length(len(named)) + named
    for text, qos in filters:
        options = qos
        if is_v5:
            # No Local with a shared subscription is a protocol error [MQTT-3.8.3-4].
            options |= 0 if is_shared(text) else _NO_LOCAL
            options |= 0 if takes_retained else _NEVER_RETAINED
        body += encode_text(text) + bytes((options,))
    return _packet(wire.SUBSCRIBE | 2, body)


def write_unsubscribe(packet_id: int, filters: Sequence[str], *, is_v5: bool) -> bytes:
    """UNSUBSCRIBE; raises LocalProtocolError."""
    if not filters:
        raise LocalProtocolError("UNSUBSCRIBE without a filter [MQTT-3.10.3-2]")
    head = packet_id.to_bytes(2, "big") + (b"\0" if is_v5 else b"")
    return _packet(wire.UNSUBSCRIBE | 2, head + b"".join(map(encode_text, filters)))


def write_disconnect(reason: int = NORMAL, *, is_v5: bool = True) -> bytes:
    """DISCONNECT; before MQTT 5 there is only the one without a reason."""
    if reason and is_v5:
        return bytes((wire.DISCONNECT, 1, reason))
    return bytes((wire.DISCONNECT, 0))


def _packet(first: int, body: bytes) -> bytes:
    return bytes((first,)) + encode_length(len(body)) + body
