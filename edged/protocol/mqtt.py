"""The words spoken over MQTT: topics, payloads and properties.

Decides how an answer, an error and a dead letter are written. Never connects, waits or publishes;
what a session with a broker offers is ``broker_session.py``.
"""

from __future__ import annotations

import functools
import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from edged.errors import EdgedError
from edged.messages import InferResponse
from edged.protocol.broker_session import Publication

JSON = "application/json"
DUP = ("edged-dup", "1")
"""Marks an answer that may have been sent before."""
ONLINE, DRAINING, OFFLINE = b"online", b"draining", b"offline"

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
