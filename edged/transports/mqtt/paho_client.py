"""paho as it is used here: on a socket that reads ahead, and spared what would keep it too long.

Decides which messages paho is not to look at; the connection itself is ``paho.py``'s.
"""

from __future__ import annotations

import logging
import socket
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode, MQTTProtocolVersion

from edged.protocol.broker_session import Publication
from edged.protocol.mqtt import encode_properties
from edged.protocol.mqtt_packets import publish_identity, read_publish
from edged.protocol.mqtt_properties import PROPERTIES_CAP
from edged.protocol.mqtt_rules import BrokenRuleError, Rule
from edged.transports.mqtt.buffered import BufferedSocket

log = logging.getLogger("edged.mqtt")

_LEAST_BYTES = 2
"""Of a property."""


class Client(paho.Client):
    """paho on a buffered socket."""

    buffered: BufferedSocket
    _has_said_many = False

    def _create_socket(self) -> BufferedSocket:
        sock: Any = super()._create_socket()
        # Without it Nagle holds back every second small packet for the peer's delayed ACK: 40 ms.
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffered = BufferedSocket(sock)
        return self.buffered

    def _handle_publish(self) -> MQTTErrorCode:
        packet = self._in_packet
        if self._protocol == MQTTProtocolVersion.MQTTv5:
            packet["packet"] = self._bearable(packet["command"], packet["packet"])
        return super()._handle_publish()

    def _bearable(self, first: int, data: bytearray) -> bytearray:
        """A PUBLISH, or one that says nothing where paho would take minutes for its properties.

        Without a topic no filter matches it, so that it is counted and acknowledged in its turn.
        """
        if len(data) <= PROPERTIES_CAP * _LEAST_BYTES:
            return data
        packet = bytes(data)
        try:
            read_publish(first, packet, 0, len(packet), is_v5=True)
        except BrokenRuleError as exc:
            if exc.rule is not Rule.PROPERTIES_MANY:
                return data  # paho's to judge
            if not self._has_said_many:
                self._has_said_many = True
                log.warning("a message is acknowledged unread: %s", exc.message)
            qos, packet_id = publish_identity(first, packet, 0, len(packet))
            return bytearray(b"\0\0" + (packet_id.to_bytes(2, "big") if qos else b"") + b"\0")
        return data


class Packed:
    """What paho asks of properties when it sends; its own class takes 30 us to fill and pack."""

    __slots__ = ("_publication",)

    def __init__(self, publication: Publication) -> None:
        self._publication = publication

    def pack(self) -> bytes:
        """The bytes of the properties."""
        return encode_properties(self._publication)
