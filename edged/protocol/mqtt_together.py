"""Publications and acknowledgements that leave together: what they have in common is done once.

Sans I/O. Where anything is unusual about one of them, nothing is done here: ``mqtt_session`` does
them one after the other.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from edged.errors import LocalProtocolError
from edged.protocol import mqtt_wire as wire
from edged.protocol.broker_session import Publication
from edged.protocol.mqtt import encode_properties
from edged.protocol.mqtt_inflow import Inflow
from edged.protocol.mqtt_outflow import Outflow
from edged.protocol.mqtt_outgoing import Outgoing
from edged.protocol.mqtt_terms import Terms
from edged.protocol.mqtt_wire import encode_length
from edged.protocol.mqtt_writer import NO_TOPIC, encode_topic

JOINED_BYTES: Final = 1024
"""Payloads up to here are copied once more, which costs less than a part of their own."""
_HEAD_BYTES: Final = 5
"""A packet's first byte and its length, at most."""
_PUBACK: Final = wire.PUBACK << 24 | 2 << 16


class Together:
    """Several at a time, on one connection.

    Args:
        inflow: what came in.
        outflow: what was sent.
        outgoing: what waits to be written.
        terms: what the broker allows; replaced when it has said so.
        is_v5: MQTT 5; nothing else is done here.
    """

    __slots__ = ("_in", "_is_v5", "_outflow", "_outgoing", "terms")

    def __init__(
        self, inflow: Inflow, outflow: Outflow, outgoing: Outgoing, terms: Terms, *, is_v5: bool
    ) -> None:
        self._in, self._outflow, self._outgoing = inflow, outflow, outgoing
        self._is_v5 = is_v5
        self.terms = terms

    @property
    def unacknowledged(self) -> int:
        """Publications of QoS 1 and 2 that are on their way."""
        return self._outflow.unacknowledged

    @property
    def unsent_bytes(self) -> int:
        """What waits to be written, or for the broker to acknowledge what was."""
        return self._outgoing.size_bytes + self._outflow.waiting_bytes

    @property
    def oldest(self) -> tuple[int, ...]:
        """What has waited longest for the broker's word; empty where nothing does."""
        return self._outflow.oldest

    def publish(
        self, tokens: range, topics: Sequence[str], payloads: Sequence[bytes], like: Publication
    ) -> bool:
        """Send those that differ in topic and payload alone; False, with nothing done, where not.

        Args:
            tokens: one for each; of no use with QoS 0, of which nothing is told.
            topics: of each.
            payloads: of each.
            like: all else.
        """
        qos, terms = like.qos, self.terms
        if not self._is_v5 or qos > 1 or qos > terms.highest_qos:
            return False
        if like.retain and not terms.takes_retained:
            return False
        heads, longest = self._heads(set(topics), like), max(map(len, payloads))
        if heads is None or longest > JOINED_BYTES:
            return False
        if max(size for _, _, size in heads.values()) + longest > terms.maximum_packet:
            return False
        packet_ids = self._outflow.begin(tokens, qos)
        if packet_ids is None:
            return False
        parts: list[bytes] = []
        first = bytes((wire.PUBLISH | qos << 1 | like.retain,))
        for topic, packet_id, payload in zip(topics, packet_ids, payloads, strict=True):
            before, behind, size = heads[topic]
            length = encode_length(size - _HEAD_BYTES + len(payload))
            parts += (first, length, before, packet_id, behind, payload)
        self._outgoing.say(b"".join(parts))
        return True

    def _heads(
        self, topics: set[str], like: Publication
    ) -> dict[str, tuple[bytes, bytes, int]] | None:
        """What stands before and behind each packet identifier, and all but a payload's bytes."""
        heads, id_bytes = {}, 2 if like.qos else 0
        try:
            for topic in topics:
                alias, is_known = self._outflow.alias(topic)
                if alias and not is_known:
                    return None
                before = NO_TOPIC if alias else encode_topic(topic)
                behind = encode_properties(like, alias)
                size = _HEAD_BYTES + len(before) + id_bytes + len(behind)
                heads[topic] = (before, behind, size)
        except (LocalProtocolError, OverflowError, UnicodeError):
            return None
        return heads

    def acknowledge(self, packet_ids: list[int]) -> bool:
        """Acknowledge messages of QoS 1; False, with nothing done, where others come before."""
        if not self._in.answer_in_order(packet_ids):
            return False
        words = [_PUBACK | packet_id for packet_id in packet_ids]
        self._outgoing.acknowledge(struct.pack(f">{len(words)}I", *words), len(words))
        return True
