"""What a broker allows on a connection, as its CONNACK says; what it does not say has a default.

Words and numbers only; ``mqtt_session`` keeps to them.
Source: MQTT 5.0, 3.2.2.3.
"""

from __future__ import annotations

from dataclasses import dataclass

from edged.protocol import mqtt_wire as wire
from edged.protocol.mqtt_packets import Connack
from edged.protocol.mqtt_properties import Property
from edged.protocol.mqtt_writer import Hello

HIGHEST_QOS = 2


@dataclass(frozen=True, slots=True)
class Terms:
    """See above.

    Args:
        receive_maximum: publications of QoS 1 that it takes at a time, as it said.
        window: the same, or fewer where we want fewer.
        maximum_packet: the longest packet it takes.
        announced_packet: as it said; None where it said nothing.
        highest_qos: of publications.
        takes_retained: whether it keeps messages.
        numbers_filters: whether subscriptions may have a number.
        topic_aliases: so many topics of ours may have a number; see ``Outflow``.
        ping_ns: how long either side may be quiet; 0 = for ever.
    """

    receive_maximum: int = 65535
    window: int = 65535
    maximum_packet: int = wire.LENGTH_CAP + 5
    announced_packet: int | None = None
    highest_qos: int = HIGHEST_QOS
    takes_retained: bool = True
    numbers_filters: bool = False
    topic_aliases: int = 0
    ping_ns: int = 0

    @classmethod
    def before(cls, hello: Hello) -> Terms:
        """What holds until the broker has said anything."""
        return cls(window=hello.window, ping_ns=hello.keep_alive_s * 1_000_000_000)

    @classmethod
    def of(cls, connack: Connack, hello: Hello) -> Terms:
        """What a broker that accepted us said."""
        said = connack.properties
        receive_maximum = said.get(Property.RECEIVE_MAXIMUM, 65535)
        largest = said.get(Property.MAXIMUM_PACKET_SIZE)
        cap = wire.LENGTH_CAP + 5
        ours_ns = hello.keep_alive_s * 1_000_000_000
        asked_ns = said.get(Property.SERVER_KEEP_ALIVE, 0) * 1_000_000_000
        return cls(
            receive_maximum,
            min(hello.window, receive_maximum),
            min(cap, largest or cap),
            largest,
            min(HIGHEST_QOS, said.get(Property.MAXIMUM_QOS, HIGHEST_QOS)),
            bool(said.get(Property.RETAIN_AVAILABLE, 1)),
            hello.is_v5 and bool(said.get(Property.SUBSCRIPTION_IDS_AVAILABLE, 1)),
            said.get(Property.TOPIC_ALIAS_MAXIMUM, 0) if hello.is_v5 else 0,
            # Oftener than the broker wants is allowed, and our own clock needs it.
            min(ours_ns or asked_ns, asked_ns or ours_ns),
        )
