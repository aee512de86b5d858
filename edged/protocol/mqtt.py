"""The words spoken over MQTT: payloads, properties, topics, and what a broker session must offer.

Decides how an answer, an error and a dead letter are written, and which events a session reports.
Never connects, waits or publishes.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import msgspec

from edged.errors import EdgedError
from edged.messages import InferResponse

JSON = "application/json"
DUP = ("edged-dup", "1")
"""Marks an answer that may have been sent before."""
ONLINE, DRAINING, OFFLINE = b"online", b"draining", b"offline"
REFUSED = 0x80
"""Reason codes from here on are failures."""
FULL_QUEUE = 0x97
"""Quota exceeded: also what a session says when it had no packet identifier left."""

_OWN = frozenset({"status", "info", "models", "config", "error", "metrics", "req", "res"})
"""First levels below the base that only the daemon publishes to; results may lie beside them."""
META = frozenset(("model", "release", "generation"))
"""What an answer says beside a row's own fields."""


@dataclass(frozen=True, slots=True)
class BaseTopics:
    """The daemon's own topics, below one base."""

    base: str

    @property
    def status(self) -> str:
        """Retained: online, draining or offline."""
        return f"{self.base}/status"

    @property
    def info(self) -> str:
        """Retained JSON about the daemon."""
        return f"{self.base}/info"

    @property
    def models(self) -> str:
        """Retained JSON list of the models."""
        return f"{self.base}/models"

    @property
    def metrics(self) -> str:
        """Retained JSON about the connection, where it is asked for."""
        return f"{self.base}/metrics"

    def model_state(self, model: str) -> str:
        """Retained: ready, loading or failed."""
        return f"{self.base}/models/{model}/state"

    def error(self, binding: str) -> str:
        """Dead letters of a binding."""
        return f"{self.base}/error/{binding}"

    def holds(self, topic: str) -> bool:
        """Whether a topic lies in the daemon's own tree."""
        return topic == self.base or topic.startswith(f"{self.base}/")

    def owns(self, topic: str) -> bool:
        """Whether only the daemon itself may publish to a topic; results may lie beside it."""
        if not self.holds(topic):
            return False
        return topic[len(self.base) + 1 :].partition("/")[0] in _OWN or topic == self.base


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


@dataclass(slots=True)
class BindingCounters:
    """What became of one binding's messages; plain integers, written on the loop only."""

    received: int = 0
    answered: int = 0
    gathered: int = 0
    dead_lettered: int = 0
    expired: int = 0
    abandoned: int = 0
    duplicates: int = 0
    undeliverable: int = 0
    suppressed: int = 0
    in_flight: int = 0

    def as_dict(self) -> dict[str, int]:
        """For the status page."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(slots=True)
class SessionCounters:
    """What a session's messages came to; those that no binding owns, and all together."""

    unmatched: int = 0
    retained: int = 0
    dropped: int = 0
    early_acks: int = 0
    acknowledged: int = 0
    published: int = 0
    received_bytes: int = 0
    published_bytes: int = 0


def encode_answer(response: InferResponse, rows: list[dict[str, Any]]) -> bytes:
    """An answer as JSON."""
    return msgspec.json.encode(answer_document(response, rows))


def answer_document(response: InferResponse, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """An answer: who answered, and the row's own fields, or ``rows`` where there are several."""
    by = (response.release, response.generation)
    return document_of({"model": response.model, "release": by[0], "generation": by[1]}, rows)


def document_of(meta: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """An answer by who answered and what each row shows."""
    if len(rows) == 1 and rows[0].keys().isdisjoint(META):
        return meta | rows[0]
    return meta | {"rows": rows}


def encode_error(error: EdgedError) -> bytes:
    """What the asker is told."""
    return msgspec.json.encode({"error": error_document(error)})


def error_document(error: EdgedError) -> dict[str, str]:
    """An error's code, class and words."""
    return {
        "code": error.code.value,
        "name": type(error).__name__,
        "message": _utf8(error.message),
    }


def encode_dead_letter(binding: str, error: EdgedError, topic: str, payload: bytes) -> bytes:
    """What operators are told of a message that got no answer; the payload by size and digest."""
    return msgspec.json.encode(
        {
            "binding": binding,
            "code": error.code.value,
            "message": _utf8(error.message),
            "topic": _utf8(topic),
            "size": len(payload),
            "sha256": hashlib.sha256(payload).hexdigest(),
        }
    )


def answer_properties(response: InferResponse, *, is_dup: bool) -> tuple[tuple[str, str], ...]:
    """User properties of an answer."""
    found = rows_properties(response.model, (response.release, response.generation))
    return (*found, DUP) if is_dup else found


def rows_properties(model: str, by: tuple[int, int]) -> tuple[tuple[str, str], ...]:
    """Those of all answers of a release under one generation of the configuration."""
    return (
        ("edged-model", model),
        ("edged-release", str(by[0])),
        ("edged-generation", str(by[1])),
        ("edged-status", "OK"),
    )


def error_properties(model: str, error: EdgedError, *, is_dup: bool) -> tuple[tuple[str, str], ...]:
    """User properties of an error and of a dead letter."""
    found = (("edged-model", model), ("edged-status", error.code.value))
    return (*found, DUP) if is_dup else found


def is_shared(mqtt_filter: str) -> bool:
    """Whether a group of clients shares what a filter catches (MQTT 5.0, 4.8.2)."""
    return mqtt_filter.startswith("$share/")


def subscription_id(mqtt_filter: str) -> int:
    """The number under which we subscribe to a filter (MQTT 5.0, 3.8.2.1.2: 1 to 268435455).

    Made of the text, so that what the broker queued for an earlier process is still understood.
    """
    return zlib.crc32(mqtt_filter.encode()) % 0x0FFF_FFFF + 1


def encode_properties(publication: Publication, alias: int = 0) -> bytes:
    """The MQTT 5 properties of a PUBLISH packet, with their length in front (MQTT 5.0, 3.3.2.3).

    Args:
        publication: what is sent.
        alias: the number of its topic on this connection; 0 = it has none.
    """
    body, prefixed = _usual_properties(publication.content_type, publication.properties)
    if publication.expiry_s is None and publication.correlation is None and not alias:
        return prefixed
    if alias:
        body = b"\x23" + alias.to_bytes(2, "big") + body
    if publication.expiry_s is not None:
        body = b"\x02" + publication.expiry_s.to_bytes(4, "big") + body
    if publication.correlation is not None:
        body += b"\x09" + _prefixed(publication.correlation)
    return _with_length(body)


@functools.lru_cache(maxsize=256)
def _usual_properties(
    content_type: str | None, properties: tuple[tuple[str, str], ...]
) -> tuple[bytes, bytes]:
    """What all answers of a release have in common, without and with the length in front."""
    parts = [] if content_type is None else [b"\x03" + _prefixed(content_type.encode())]
    for key, value in properties:
        parts.append(b"\x26" + _prefixed(key.encode()) + _prefixed(value.encode()))
    body = b"".join(parts)
    return body, _with_length(body)


def _with_length(body: bytes) -> bytes:
    length, left = bytearray(), len(body)
    while left > 0x7F:
        length.append(left & 0x7F | 0x80)
        left >>= 7
    length.append(left)
    return bytes(length) + body


def _prefixed(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def encode_document(document: Mapping[str, Any] | Sequence[Any]) -> bytes:
    """A document of ours as JSON."""
    return msgspec.json.encode(document)


def _utf8(text: str) -> str:
    """Text that UTF-8 can carry; a hostile payload may have put half a surrogate pair into it."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def before_v5(publication: Publication) -> Publication:
    """As it is said where there are no user properties: a JSON document carries the mark of DUP."""
    payload = publication.payload
    is_document = publication.content_type == JSON and payload[:1] == b"{"
    if DUP not in publication.properties or not is_document or b'"edged-dup"' in payload:
        return publication
    mark = b'{"edged-dup":1' + (b"" if payload[1:2] == b"}" else b",")
    return publication._replace(payload=mark + payload[1:])
