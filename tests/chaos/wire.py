"""PUBLISH and PUBACK as bytes, for the tests of the tap."""

from __future__ import annotations

from edged.protocol.broker_session import Publication
from edged.protocol.mqtt_writer import write_publish_head


def publish(publication: Publication, packet_id: int, *, is_v5: bool = True) -> bytes:
    return write_publish_head(publication, packet_id, is_v5=is_v5) + publication.payload


def ack(packet_id: int, reason: int = 0) -> bytes:
    return bytes((0x40, 3, 0, packet_id, reason))
