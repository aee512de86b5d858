"""What a broker must not send, as one table: the rule, its clause in both versions, our answer.

Words only. The readers raise by these rules, tests break each of them with recorded bytes.
Source: MQTT 5.0 (OASIS, March 2019) and MQTT 3.1.1 (OASIS, October 2014). A clause that has no
number of its own there is named by its section.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from edged.errors import RemoteProtocolError

MALFORMED = 0x81
PROTOCOL_ERROR = 0x82
RECEIVE_MAXIMUM_EXCEEDED = 0x93
TOPIC_ALIAS_INVALID = 0x94
PACKET_TOO_LARGE = 0x95
QUOTA_EXCEEDED = 0x97


class Broken(NamedTuple):
    """A rule as a sentence, where it is written, and what the broker is told in DISCONNECT.

    Args:
        words: what has to be.
        v5: the clause of MQTT 5.0.
        v311: the clause of MQTT 3.1.1; empty where only 5.0 has the rule.
        reason: the code of DISCONNECT (MQTT 5; before it the connection is just closed).
        spares: whether the packets around a PUBLISH that breaks it can still be understood.
    """

    words: str
    v5: str
    v311: str = ""
    reason: int = MALFORMED
    spares: bool = False


class Rule(Broken, enum.Enum):
    """The rules that a broker can break; the first word of a name says of which packets."""

    # Any packet
    LENGTH = ("the remaining length takes at most four bytes", "1.5.5", "2.2.3")
    LENGTH_SHORTEST = ("a length is written with the fewest bytes that hold it", "MQTT-1.5.5-1")
    TOO_LARGE = (
        "a packet is not longer than the Maximum Packet Size we announced",
        "MQTT-3.1.2-24", "", PACKET_TOO_LARGE,
    )  # fmt: skip
    KIND = ("packet type 0 is reserved", "2.1.2", "2.2.1")
    KIND_SERVER = (
        "a server sends no packet that only clients send",
        "2.1.2", "2.2.1", PROTOCOL_ERROR,
    )  # fmt: skip
    FLAGS = ("the flags of the fixed header are as listed", "MQTT-2.1.3-1", "MQTT-2.2.2-2")
    FIELDS = ("the fields of a packet end where the packet ends", "4.13.1", "4.8")
    PACKET_ID = ("a packet identifier is not zero", "MQTT-2.2.1-4", "MQTT-2.3.1-1")
    TEXT = ("text is well-formed UTF-8", "MQTT-1.5.4-1", "MQTT-1.5.3-1", MALFORMED, True)
    TEXT_NUL = ("text holds no U+0000", "MQTT-1.5.4-2", "MQTT-1.5.3-2", MALFORMED, True)

    # Properties
    PROPERTY_KIND = ("a property belongs to the packet it is in", "2.2.2.2")
    PROPERTY_TWICE = ("a property is there once", "2.2.2.2", "", PROTOCOL_ERROR)
    PROPERTY_VALUE = (
        "a property has one of the values it may have",
        "2.2.2.2", "", PROTOCOL_ERROR,
    )  # fmt: skip
    PROPERTIES_MANY = (
        "a packet has 32,768 properties at most, which is a limit of ours",
        "3.14.2.1", "", QUOTA_EXCEEDED, True,
    )  # fmt: skip
    PROPERTY_UNASKED = (
        "Response Information comes only to those who asked for it",
        "MQTT-3.1.2-28", "", PROTOCOL_ERROR,
    )  # fmt: skip

    # CONNACK
    CONNACK_FIRST = (
        "CONNACK comes before any other packet",
        "MQTT-3.2.0-1", "MQTT-3.2.0-1", PROTOCOL_ERROR,
    )  # fmt: skip
    CONNACK_ONCE = ("CONNACK comes once", "MQTT-3.2.0-2", "3.2", PROTOCOL_ERROR)
    CONNACK_FLAGS = ("bits 7 to 1 of CONNACK's flags are zero", "MQTT-3.2.2-1", "3.2.2.1")
    CONNACK_PRESENT = (
        "a CONNACK that refuses has no session",
        "MQTT-3.2.2-6", "MQTT-3.2.2-4", PROTOCOL_ERROR,
    )  # fmt: skip
    CONNACK_REASON = (
        "CONNACK has one of its own reason codes",
        "MQTT-3.2.2-8", "3.2.2.3", PROTOCOL_ERROR,
    )  # fmt: skip

    # PUBLISH
    PUBLISH_QOS = ("QoS is 0, 1 or 2", "MQTT-3.3.1-4", "MQTT-3.3.1-4")
    PUBLISH_DUP = ("a message of QoS 0 is no duplicate", "MQTT-3.3.1-2", "MQTT-3.3.1-2")
    PUBLISH_WILDCARD = (
        "a topic name holds no wildcards",
        "MQTT-3.3.2-2", "MQTT-3.3.2-2", MALFORMED, True,
    )  # fmt: skip
    PUBLISH_TOPIC = (
        "a topic name is one character long at least, unless an alias stands for it",
        "3.3.2.1", "MQTT-4.7.3-1", PROTOCOL_ERROR,
    )  # fmt: skip
    PUBLISH_ALIAS_ZERO = ("a topic alias is not 0", "MQTT-3.3.2-8", "", TOPIC_ALIAS_INVALID)
    PUBLISH_ALIAS_RANGE = (
        "a topic alias is at most the Topic Alias Maximum we announced",
        "MQTT-3.3.2-11", "", TOPIC_ALIAS_INVALID,
    )  # fmt: skip
    PUBLISH_ALIAS_UNKNOWN = (
        "a topic alias without a topic was given one before on this connection",
        "3.3.2.3.4", "", PROTOCOL_ERROR,
    )  # fmt: skip
    PUBLISH_IN_USE = (
        "a message that is new has an identifier that is free",
        "MQTT-2.2.1-4", "MQTT-2.3.1-4", PROTOCOL_ERROR,
    )  # fmt: skip
    PUBLISH_TOO_MANY = (
        "so many messages of QoS 1 and 2 are unacknowledged at a time as we announced",
        "MQTT-3.3.4-9", "", RECEIVE_MAXIMUM_EXCEEDED,
    )  # fmt: skip

    # Acknowledgements
    ACK_REASON = (
        "an acknowledgement has one of its own reason codes",
        "MQTT-3.4.2-1", "", PROTOCOL_ERROR,
    )  # fmt: skip
    ACK_UNKNOWN = (
        "an acknowledgement names a packet that waits for it",
        "MQTT-2.2.1-5", "MQTT-2.3.1-6", PROTOCOL_ERROR,
    )  # fmt: skip
    SUBACK_UNKNOWN = (
        "SUBACK and UNSUBACK name a packet that waits for them",
        "MQTT-2.2.1-6", "MQTT-2.3.1-7", PROTOCOL_ERROR,
    )  # fmt: skip
    SUBACK_COUNT = (
        "SUBACK has a reason code for each filter",
        "MQTT-3.8.4-6", "MQTT-3.8.4-5", PROTOCOL_ERROR,
    )  # fmt: skip
    SUBACK_REASON = (
        "SUBACK has reason codes of its own only",
        "MQTT-3.9.3-2", "MQTT-3.9.3-2", PROTOCOL_ERROR,
    )  # fmt: skip
    UNSUBACK_COUNT = (
        "UNSUBACK has a reason code for each filter",
        "MQTT-3.11.3-1", "", PROTOCOL_ERROR,
    )  # fmt: skip
    UNSUBACK_REASON = (
        "UNSUBACK has reason codes of its own only",
        "MQTT-3.11.3-2", "", PROTOCOL_ERROR,
    )  # fmt: skip

    # The end, and logging in
    DISCONNECT_EARLY = (
        "DISCONNECT does not come before CONNACK",
        "MQTT-3.14.0-1", "", PROTOCOL_ERROR,
    )  # fmt: skip
    DISCONNECT_REASON = (
        "DISCONNECT has one of a server's reason codes",
        "MQTT-3.14.2-1", "", PROTOCOL_ERROR,
    )  # fmt: skip
    DISCONNECT_EXPIRY = (
        "a server's DISCONNECT has no Session Expiry Interval",
        "MQTT-3.14.2-2", "", PROTOCOL_ERROR,
    )  # fmt: skip
    AUTH_UNASKED = (
        "AUTH and a method to log in come only to those who asked for them",
        "MQTT-4.12.0-6", "", PROTOCOL_ERROR,
    )  # fmt: skip


class BrokenRuleError(RemoteProtocolError):
    """A broker broke the specification.

    Args:
        rule: which one.
        found: what it sent, in a few words.
    """

    def __init__(self, rule: Rule, found: str) -> None:
        clauses = f"5.0 {rule.v5}" + (f", 3.1.1 {rule.v311}" if rule.v311 else "")
        super().__init__(f"{found}; {rule.words} [MQTT {clauses}]")
        self.rule = rule
