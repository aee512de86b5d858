"""What a session with a broker offers, and the events that it reports; nothing of how it does so.

``transports/mqtt/`` has the sessions; bindings, forwarding and Sparkplug know this alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

REFUSED = 0x80
"""Reason codes from here on are failures."""
FULL_QUEUE = 0x97
"""Quota exceeded: also what a session says when it had no packet identifier left."""


class Message(NamedTuple):
    """A message that came in.

    Args:
        connection: number of the connection it came in on; its acknowledgement belongs there.
        mid: packet identifier, 0 for QoS 0.
        response_topic: MQTT 5; None where absent, as the following.
        expiry_s: what is left of its lifetime, seconds, as of ``arrived_ns``.
        arrived_ns: monotonic clock, nanoseconds.
        subscriptions: ``subscription_id`` of the filters this copy came by; empty where the broker
            does not say.
        content_type: what the sender says the payload is.
    """

    connection: int
    mid: int
    topic: str
    payload: bytes
    qos: int
    retain: bool
    dup: bool
    arrived_ns: int
    response_topic: str | None = None
    correlation: bytes | None = None
    expiry_s: int | None = None
    subscriptions: tuple[int, ...] = ()
    content_type: str | None = None


class Publication(NamedTuple):
    """A message to send. The MQTT 5 parts are left out on older connections."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False
    content_type: str | None = None
    correlation: bytes | None = None
    expiry_s: int | None = None
    properties: tuple[tuple[str, str], ...] = ()

    @property
    def size_bytes(self) -> int:
        """An upper bound of the packet on the wire."""
        named = sum(len(key) * 4 + len(value) * 4 + 5 for key, value in self.properties)
        return len(self.topic) * 4 + len(self.payload) + len(self.correlation or b"") + named + 128


@dataclass(frozen=True, slots=True)
class Connected:
    """The broker accepted us.

    Args:
        protocol: ``5`` or ``3.1.1``.
        session_present: whether the broker kept our session.
        receive_maximum: unacknowledged QoS 1 messages the broker takes at a time.
        maximum_packet_bytes: larger packets make the broker close the connection; None = no limit.
    """

    connection: int
    protocol: str
    session_present: bool
    receive_maximum: int
    maximum_packet_bytes: int | None


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection ended, or an attempt failed; ``will_retry`` False = a person must act."""

    connection: int
    reason: str
    will_retry: bool


class Published(NamedTuple):
    """A publication is in the broker's hands (QoS 1: PUBACK), or was refused."""

    connection: int
    token: int
    reason_code: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Subscribed:
    """The broker's word on a subscription; ``failures`` are filters with reasons."""

    connection: int
    token: int
    failures: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Unsubscribed:
    """The broker has forgotten the filters."""

    connection: int
    token: int


SessionEvent = Connected | Disconnected | Message | Published | Subscribed | Unsubscribed
OnEvent = Callable[[SessionEvent], None]


class BrokerSession(Protocol):
    """One session with one broker, over as many connections as it takes.

    Commands are for the connection that was up (by the events delivered so far) when they were
    given; when that one is gone they are dropped and no event answers them.
    """

    def start(self, loop: asyncio.AbstractEventLoop, on_event: OnEvent) -> None:
        """Begin to connect; events are delivered on the loop, in order."""
        ...

    def subscribe(self, filters: Sequence[tuple[str, int]]) -> int:
        """Subscribe to filters, each with its QoS; returns the token of the Subscribed event."""
        ...

    def unsubscribe(self, filters: Sequence[str]) -> int:
        """Unsubscribe; returns the token of the Unsubscribed event."""
        ...

    def publish(self, publication: Publication) -> int:
        """Send; returns the token of the Published event."""
        ...

    def ack(self, message: Message) -> None:
        """Acknowledge a QoS 1 message, on the connection it arrived on or not at all."""
        ...

    async def stop(self, timeout_s: float) -> None:
        """Say goodbye and end; the broker keeps the session."""
        ...

    def stats(self) -> dict[str, Any]:
        """``state`` and plain figures for the status page."""
        ...
