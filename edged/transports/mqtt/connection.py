"""One connection to a broker, as a session sees it: the narrow view of the MQTT library.

Words only. ``mqtt.py`` is the one file that fills them with a library; ``session.py`` uses them.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from edged.protocol.broker_session import Connected, Publication, SessionEvent
from edged.protocol.mqtt import OFFLINE, BaseTopics

Renew = Callable[[], "tuple[str | None, ssl.SSLContext | None]"]
"""Reads the password and the certificates; raises EdgedError."""


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """Where the broker is and who we are.

    Args:
        protocol: ``auto``, ``5`` or ``3.1.1``.
        keepalive_s: the broker is taken for dead after one and a half of it.
        session_expiry_s: how long the broker keeps our session while we are away (MQTT 5).
        max_inflight: unacknowledged QoS 1 messages in either direction, at most.
        tls: None for plain TCP.
        websocket: path of the broker's WebSocket; None = MQTT without it.
        max_packet_bytes: the longest packet we take (MQTT 5); None = as long as MQTT has.
        most_sent_bytes: the longest packet that the broker takes, as the operator says.
        connect_timeout_s: for TCP, TLS and the broker's answer, each.
        has_will: whether the broker says ``offline`` for us when we vanish.
        longest_pause_s: between two attempts to connect, as long as the broker stays away.
        will: says at each connection what the broker is to publish when we vanish; None = as
            ``has_will`` says.
        renew: reads password and certificates again; None = they stay what they are.
        takes_retained: whether we want what the broker kept from before we subscribed.
        places: says at each connection, by whether it is MQTT 5, how many messages we take before
            the first is acknowledged; None = ``max_inflight``. Asked on the event loop.
    """

    client_id: str
    base: str
    host: str = "localhost"
    port: int = 1883
    protocol: str = "auto"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = None
    websocket: str | None = None
    keepalive_s: float = 30.0
    session_expiry_s: int = 86400
    max_inflight: int = 64
    max_packet_bytes: int | None = None
    most_sent_bytes: int | None = None
    connect_timeout_s: float = 10.0
    has_will: bool = True
    longest_pause_s: float = 60.0
    takes_retained: bool = False
    will: Callable[[], Publication] | None = field(default=None, compare=False)
    renew: Renew | None = field(default=None, compare=False, repr=False)
    places: Callable[[bool], int] | None = field(default=None, compare=False, repr=False)

    def receive_maximum(self, *, is_v5: bool) -> int:
        """How many messages we take, on the connection that begins now."""
        return self.max_inflight if self.places is None else self.places(is_v5)

    def last_words(self) -> Publication | None:
        """What the broker is to publish when we vanish from the connection that begins now."""
        if self.will is not None:
            return self.will()
        if not self.has_will:
            return None
        return Publication(BaseTopics(self.base).status, OFFLINE, qos=1, retain=True)

    def bounded(self, event: Connected) -> Connected:
        """What the broker says of itself, and the operator of it."""
        said, stated = event.maximum_packet_bytes, self.most_sent_bytes
        if stated is None or (said is not None and said <= stated):
            return event
        return replace(event, maximum_packet_bytes=stated)

    def named(self, name: str) -> SessionOptions:
        """Those of a session beside this one: a name of its own, and no word about the daemon."""
        client_id = f"{self.client_id[: 63 - len(name)]}-{name}"
        return replace(self, client_id=client_id, has_will=False, will=None)


class Connection(Protocol):
    """One connection, as its thread sees it; the library's side of the session."""

    is_up: bool
    reached_broker: bool
    reason_code: int | None
    reason: str

    def connect(self) -> None:
        """Open the socket and send CONNECT; raises OSError."""
        ...

    def fileno(self) -> int:
        """The socket, or -1 once it is closed."""
        ...

    def wants_write(self) -> bool:
        """Whether bytes wait to be written."""
        ...

    def pending(self) -> bool:
        """Whether received bytes wait outside the socket (TLS)."""
        ...

    def step(self, *, is_readable: bool) -> bool:
        """Read, write and keep alive; False when the connection has ended."""
        ...

    def subscribe(self, token: int, filters: tuple[tuple[str, int], ...]) -> None:
        """Send SUBSCRIBE."""
        ...

    def unsubscribe(self, token: int, filters: list[str]) -> None:
        """Send UNSUBSCRIBE."""
        ...

    def publish(self, token: int, publication: Publication) -> None:
        """Send PUBLISH."""
        ...

    def ack(self, mid: int) -> None:
        """Send PUBACK."""
        ...

    def disconnect(self) -> None:
        """Send DISCONNECT behind all that waits to be written."""
        ...


MakeConnection = Callable[[SessionOptions, str, int, Callable[[SessionEvent], None]], Connection]
"""Called with options, protocol, connection number, and where events go."""
