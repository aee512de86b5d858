"""Reason codes of MQTT: their names, and which packet of a server may have which.

Words only. Source: MQTT 5.0, 2.4 and the tables of section 3; MQTT 3.1.1, tables 3.1 and 3.9.3.
"""

from __future__ import annotations

from typing import Final

SUCCESS: Final = 0x00
FIRST_FAILURE: Final = 0x80
PACKET_ID_NOT_FOUND: Final = 0x92
TOO_LARGE: Final = 0x95
QUOTA_EXCEEDED: Final = 0x97
RETAIN_NOT_SUPPORTED: Final = 0x9A
QOS_NOT_SUPPORTED: Final = 0x9B
IMPLEMENTATION: Final = 0x83

NAMES: Final = {
    0x00: "Success",
    0x04: "Disconnect with will message",
    0x10: "No matching subscribers",
    0x11: "No subscription existed",
    0x18: "Continue authentication",
    0x19: "Re-authenticate",
    0x80: "Unspecified error",
    0x81: "Malformed packet",
    0x82: "Protocol error",
    0x83: "Implementation specific error",
    0x84: "Unsupported protocol version",
    0x85: "Client identifier not valid",
    0x86: "Bad user name or password",
    0x87: "Not authorized",
    0x88: "Server unavailable",
    0x89: "Server busy",
    0x8A: "Banned",
    0x8B: "Server shutting down",
    0x8C: "Bad authentication method",
    0x8D: "Keep alive timeout",
    0x8E: "Session taken over",
    0x8F: "Topic filter invalid",
    0x90: "Topic name invalid",
    0x91: "Packet identifier in use",
    0x92: "Packet identifier not found",
    0x93: "Receive maximum exceeded",
    0x94: "Topic alias invalid",
    0x95: "Packet too large",
    0x96: "Message rate too high",
    0x97: "Quota exceeded",
    0x98: "Administrative action",
    0x99: "Payload format invalid",
    0x9A: "Retain not supported",
    0x9B: "QoS not supported",
    0x9C: "Use another server",
    0x9D: "Server moved",
    0x9E: "Shared subscriptions not supported",
    0x9F: "Connection rate exceeded",
    0xA0: "Maximum connect time",
    0xA1: "Subscription identifiers not supported",
    0xA2: "Wildcard subscriptions not supported",
}

_COMMON = {0x80, 0x83, 0x87}
IN_CONNACK: Final = frozenset(
    {0x00, 0x90, 0x95, 0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F, 0x8C, *range(0x80, 0x8B)}
)
IN_PUBACK: Final = frozenset({0x00, 0x10, 0x90, 0x91, 0x97, 0x99} | _COMMON)
"""PUBACK and PUBREC."""
IN_PUBREL: Final = frozenset({0x00, 0x92})
"""PUBREL and PUBCOMP."""
IN_SUBACK: Final = frozenset({0, 1, 2, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2} | _COMMON)
IN_SUBACK_V311: Final = frozenset({0, 1, 2, 0x80})
IN_UNSUBACK: Final = frozenset({0x00, 0x11, 0x8F, 0x91} | _COMMON)
IN_DISCONNECT: Final = frozenset(
    {0x00, 0x81, 0x82, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, *range(0x93, 0xA3)} | _COMMON
)

FROM_V311: Final = {1: 0x84, 2: 0x85, 3: 0x88, 4: 0x86, 5: 0x87}
"""A CONNACK's return code of MQTT 3.1.1 → the reason code of MQTT 5 that says the same."""


def words(code: int, said: str = "") -> str:
    """A reason code in words, with what the broker said of it."""
    name = NAMES.get(code, f"reason code 0x{code:02x}")
    return f"{name} ({said})" if said else name
