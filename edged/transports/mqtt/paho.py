"""The broker session over paho-mqtt.

Decides how each command and event is said to and by paho; the session itself is ``session.py``.
paho is used in the manner of an external event loop: its objects live in the session's thread, it
starts no thread, keeps no queue over connections, and each connection has its own client, so
nothing stale is ever sent again.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edged.protocol.broker_session import (
    FULL_QUEUE,
    Connected,
    Message,
    Publication,
    Published,
    SessionEvent,
    Subscribed,
    Unsubscribed,
)
from edged.protocol.mqtt import before_v5, is_shared, subscription_id
from edged.transports.mqtt.connection import SessionOptions
from edged.transports.mqtt.paho_client import Client, Packed
from edged.transports.mqtt.patience import Patience, queued_bytes
from edged.transports.mqtt.session import Session
from edged.transports.mqtt.taken import Taken

_OK = MQTTErrorCode.MQTT_ERR_SUCCESS
_READS = 16
"""So many times packets are read before those that wait are written."""
_LOOK_NS = 1_000_000_000
"""So often it is looked at what the broker has not acknowledged."""
_NEVER_RETAINED = 2
"""Retain handling: the broker sends no retained messages when we subscribe."""


class MqttSession(Session):
    """A session over paho; see BrokerSession.

    Args:
        options: where the broker is and who we are.
        rng: for the jitter of reconnects.
    """

    def __init__(self, options: SessionOptions, rng: random.Random | None = None) -> None:
        super().__init__(options, PahoConnection, rng)


@dataclass(slots=True)
class _Asked:
    """A subscription of ours, which may take several packets, and what was refused of it."""

    token: int
    open_packets: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)


class PahoConnection:
    """One connection; see session.Connection. Used by one thread only."""

    def __init__(
        self,
        options: SessionOptions,
        protocol: str,
        number: int,
        emit: Callable[[SessionEvent], None],
    ) -> None:
        self.is_up = False
        self.reached_broker = False
        self.reason_code: int | None = None
        self.reason = ""
        self._options = options
        self._protocol = protocol
        self._number = number
        self._emit = emit
        self._window = 1
        self._taken = Taken()
        self._queue: deque[tuple[int, Publication]] = deque()
        self._open_bytes: dict[int, int] = {}
        """Of messages of QoS 0 that paho has and did not write."""
        self._unread_bytes = 0
        """Of those, and of all in the queue."""
        self._tokens: dict[int, int] = {}
        self._subscribing: dict[int, tuple[_Asked, list[str]]] = {}
        self._unsubscribing: dict[int, int] = {}
        self._numbers_filters = False
        self._client = self._make_client()
        self._patience, self._looked_ns = Patience(), 0

    def _make_client(self) -> Client:
        options, is_v5 = self._options, self._protocol == "5"
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=options.client_id,
            clean_session=None if is_v5 else options.session_expiry_s == 0,
            protocol=MQTTProtocolVersion.MQTTv5 if is_v5 else MQTTProtocolVersion.MQTTv311,
            transport="unix" if options.host.startswith("/") else "tcp",
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.connect_timeout = options.connect_timeout_s
        client.max_inflight_messages = 0  # paho never reads the broker's Receive Maximum; we do
        if options.username is not None:
            client.username_pw_set(options.username, options.password)
        if options.tls is not None:
            client.tls_set_context(options.tls)
        if (will := options.last_words()) is not None:
            client.will_set(will.topic, will.payload, will.qos, will.retain)
        # With this set, packets wait for our own ``step`` instead of being written in callbacks.
        client.on_socket_register_write = _nothing
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_unsubscribe = self._on_unsubscribe
        return client

    def connect(self) -> None:
        """Open the socket and send CONNECT; raises OSError."""
        options = self._options
        properties = None
        takes = options.receive_maximum(is_v5=self._protocol == "5")
        if self._protocol == "5":
            properties = _properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = options.session_expiry_s
            properties.ReceiveMaximum = takes
            if options.max_packet_bytes is not None:
                properties.MaximumPacketSize = options.max_packet_bytes
        self._client.connect(
            options.host,
            options.port,
            max(1, round(options.keepalive_s)),
            clean_start=options.session_expiry_s == 0
            if self._protocol == "5"
            else paho.MQTT_CLEAN_START_FIRST_ONLY,
            properties=properties,
        )
        self.reached_broker = True

    def fileno(self) -> int:
        """The socket, or -1 once it is closed."""
        sock = self._client.socket()
        return -1 if sock is None else sock.fileno()

    def wants_write(self) -> bool:
        """Whether bytes wait to be written."""
        return self._client.want_write() or bool(self._client.buffered.waiting)

    def pending(self) -> bool:
        """Whether received bytes wait outside the socket."""
        return self._client.buffered.pending() > 0

    def step(self, *, is_readable: bool) -> bool:
        """Read, write and keep alive; False when the connection has ended."""
        client = self._client
        reads = _READS if is_readable else 0
        while reads and client.loop_read() == _OK:
            reads = reads - 1 if client.buffered.pending() else 0
        if reads or (client.want_write() and client.loop_write() != _OK):
            return False
        try:
            client.buffered.flush()
        except OSError:
            # What the broker said before it closed may still be there; its reason is wanted.
            while client.loop_read() == _OK and client.buffered.pending():
                pass
            return False
        goes_on = client.socket() is not None and client.loop_misc() == _OK
        if goes_on and (now_ns := time.monotonic_ns()) - self._looked_ns > _LOOK_NS:
            self._looked_ns = now_ns
            self._judge(now_ns)
        return goes_on

    def _judge(self, now_ns: int) -> None:
        """Raise TimeoutError for a broker that will never acknowledge what it has."""
        kinds = (self._tokens, self._subscribing, self._unsubscribing)
        oldest = tuple(next(iter(kind)) for kind in kinds if kind)
        buffered, patience = self._client.buffered, self._patience
        if self._client.want_write() or not patience.waits_for(oldest):
            patience.begin(oldest, now_ns, buffered.taken_bytes)
            return
        there = buffered.taken_bytes - buffered.waiting - queued_bytes(buffered.fileno())
        if patience.has_ended(now_ns, there):
            raise TimeoutError(patience.words)

    def subscribe(self, token: int, filters: tuple[tuple[str, int], ...]) -> None:
        """Send SUBSCRIBE; with MQTT 5 without our own messages and without retained ones.

        One packet for each filter where the broker takes numbers: a packet has one number only.
        """
        asked = _Asked(token)
        if not self._numbers_filters:
            self._subscribe(asked, filters, None)
            return
        for text, qos in filters:
            properties = _properties(PacketTypes.SUBSCRIBE)
            properties.SubscriptionIdentifier = subscription_id(text)
            self._subscribe(asked, ((text, qos),), properties)

    def _subscribe(
        self, asked: _Asked, filters: tuple[tuple[str, int], ...], properties: Properties | None
    ) -> None:
        wanted: list[Any] = list(filters)
        if self._protocol == "5":
            kept = 0 if self._options.takes_retained else _NEVER_RETAINED
            wanted = [
                (text, SubscribeOptions(qos, _may_skip_ours(text), False, kept))
                for text, qos in filters
            ]
        _, mid = self._client.subscribe(wanted, properties=properties)
        if mid is not None:
            asked.open_packets += 1
            self._subscribing[mid] = (asked, [text for text, _ in filters])

    def unsubscribe(self, token: int, filters: list[str]) -> None:
        """Send UNSUBSCRIBE."""
        _, mid = self._client.unsubscribe(filters)
        if mid is not None:
            self._unsubscribing[mid] = token

    def publish(self, token: int, publication: Publication) -> None:
        """Send PUBLISH once the broker's window has room, in order."""
        if publication.qos > 1 and self._protocol != "5":
            self._window = 1  # see Outflow
        publication = self._taken.fitting(publication)
        refusal = self._taken.refusal(publication, self._unread_bytes)
        if refusal is not None:
            self._emit(Published(self._number, token, *refusal))
        elif self._queue or len(self._tokens) >= self._window:
            self._queue.append((token, publication))
            self._unread_bytes += publication.size_bytes
        else:
            self._send(token, publication)

    def _send(self, token: int, publication: Publication) -> None:
        is_v5 = self._protocol == "5"
        packed: Any = Packed(publication) if is_v5 else None
        publication = publication if is_v5 else before_v5(publication)
        for _ in range(64):  # "queue size" means that the next packet identifier is still in use
            info = self._client.publish(
                publication.topic,
                publication.payload,
                publication.qos,
                publication.retain,
                packed,
            )
            if info.rc != MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
                self._tokens[info.mid] = token
                if not publication.qos:
                    self._open_bytes[info.mid] = publication.size_bytes
                    self._unread_bytes += publication.size_bytes
                return
        self._emit(Published(self._number, token, FULL_QUEUE, "no packet identifier is free"))

    def ack(self, mid: int) -> None:
        """Send PUBACK."""
        self._client.ack(mid, 1)

    def disconnect(self) -> None:
        """Send DISCONNECT behind all that waits to be written."""
        self._client.disconnect()

    # paho's callbacks: they note and enqueue, and raise nothing.

    def _on_connect(
        self, _client: paho.Client, _: Any, flags: Any, reason: ReasonCode, properties: Any
    ) -> None:
        if reason.is_failure:
            self.reason_code, self.reason = reason.value, f"the broker refused us: {reason}"
            return
        self.is_up = True
        receive_maximum = int(getattr(properties, "ReceiveMaximum", 65535))
        self._window = min(self._options.max_inflight, receive_maximum)
        self._taken = taken = Taken(
            int(getattr(properties, "MaximumQoS", 2)),
            bool(getattr(properties, "RetainAvailable", 1)),
            getattr(properties, "MaximumPacketSize", None),
        )
        self._numbers_filters = self._protocol == "5" and bool(
            getattr(properties, "SubscriptionIdentifierAvailable", 1)
        )
        self._emit(
            Connected(
                self._number,
                self._protocol,
                bool(flags.session_present),
                receive_maximum,
                taken.maximum_packet_bytes,
            )
        )

    def _on_disconnect(
        self, _client: paho.Client, _: Any, flags: Any, reason: ReasonCode, _properties: Any
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self.reason_code = reason.value
            self.reason = f"the broker disconnected us: {reason}"

    def _on_message(self, _client: paho.Client, _: Any, message: paho.MQTTMessage) -> None:
        properties = message.properties
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""  # no filter matches it, so it is counted and acknowledged
        self._emit(
            Message(
                self._number,
                message.mid,
                topic,
                bytes(message.payload),
                message.qos,
                message.retain,
                message.dup,
                time.monotonic_ns(),
                getattr(properties, "ResponseTopic", None),
                getattr(properties, "CorrelationData", None),
                getattr(properties, "MessageExpiryInterval", None),
                tuple(getattr(properties, "SubscriptionIdentifier", ())),
                getattr(properties, "ContentType", None),
            )
        )

    def _on_publish(
        self, _client: paho.Client, _: Any, mid: int, reason: ReasonCode, _properties: Any
    ) -> None:
        token = self._tokens.pop(mid, None)
        self._unread_bytes -= self._open_bytes.pop(mid, 0)
        if token is None:
            return
        if reason.is_failure:
            self._emit(Published(self._number, token, reason.value, str(reason)))
        else:
            self._emit(Published(self._number, token))
        while self._queue and len(self._tokens) < self._window:
            queued = self._queue.popleft()
            self._unread_bytes -= queued[1].size_bytes
            self._send(*queued)

    def _on_subscribe(
        self, _client: paho.Client, _: Any, mid: int, reasons: list[ReasonCode], _properties: Any
    ) -> None:
        asked, filters = self._subscribing.pop(mid, (_Asked(0), []))
        asked.failures += [
            (text, str(reason))
            for text, reason in zip(filters, reasons, strict=False)
            if reason.is_failure
        ]
        asked.open_packets -= 1
        if asked.open_packets == 0:
            self._emit(Subscribed(self._number, asked.token, tuple(asked.failures)))

    def _on_unsubscribe(
        self, _client: paho.Client, _: Any, mid: int, _reasons: list[ReasonCode], _properties: Any
    ) -> None:
        self._emit(Unsubscribed(self._number, self._unsubscribing.pop(mid, 0)))


def _properties(packet_type: int) -> Properties:
    return Properties(packet_type)  # type: ignore[no-untyped-call]


def _may_skip_ours(mqtt_filter: str) -> bool:
    """A shared filter with No Local breaks the specification (MQTT-3.8.3-4)."""
    return not is_shared(mqtt_filter)


def _nothing(_client: paho.Client, _: Any, _sock: Any) -> None:
    pass
