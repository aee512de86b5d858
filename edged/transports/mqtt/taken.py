"""What a broker takes, held to before a library that does not look at it.

Decides which publications are refused here: a broker ends the connection for them, and with it all
that is on its way. Of QoS 0 also those that nobody would read.
"""

from __future__ import annotations

from dataclasses import dataclass

from edged.protocol.broker_session import FULL_QUEUE, Publication
from edged.protocol.mqtt_reasons import QOS_NOT_SUPPORTED, RETAIN_NOT_SUPPORTED, TOO_LARGE
from edged.transports.mqtt.standing import UNREAD_BYTES, UNREAD_WORDS


@dataclass(frozen=True, slots=True)
class Taken:
    """As a CONNACK of MQTT 5 says it.

    Args:
        highest_qos: of publications.
        keeps_messages: whether any may be retained.
        maximum_packet_bytes: the longest packet; None = no limit.
    """

    highest_qos: int = 2
    keeps_messages: bool = True
    maximum_packet_bytes: int | None = None

    def fitting(self, publication: Publication) -> Publication:
        """With QoS 1 where 2 is more than the broker takes."""
        is_more = publication.qos > self.highest_qos == 1
        return publication._replace(qos=1) if is_more else publication

    def refusal(self, publication: Publication, unread_bytes: int) -> tuple[int, str] | None:
        """Why it is not to be sent, as reason code and words; None where it may be.

        Args:
            publication: as it would be sent.
            unread_bytes: of what was not written to the broker yet.
        """
        if publication.qos > self.highest_qos:
            return QOS_NOT_SUPPORTED, f"QoS {publication.qos} is more than is sent"
        if publication.retain and not self.keeps_messages:
            return RETAIN_NOT_SUPPORTED, "the broker keeps no messages"
        most, size = self.maximum_packet_bytes, publication.size_bytes
        if most is not None and size > most:
            return TOO_LARGE, f"{size} bytes at most; the broker takes {most}"
        if not publication.qos and unread_bytes > UNREAD_BYTES:
            return FULL_QUEUE, UNREAD_WORDS
        return None
