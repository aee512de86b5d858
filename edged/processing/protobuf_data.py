"""Protobuf messages to documents, by an operator's own descriptors.

Decides what a message's fields mean as a document: names as in the .proto file, enumerations as
numbers, maps by text. A field that was not sent is absent where the message can tell, else its
default. Descriptors live in a pool of their own, beside no other.
Source: protobuf.dev, "Techniques", self-describing messages (descriptor sets).
"""

from __future__ import annotations

import math
from typing import Any

from edged.errors import DecodeError, FieldError, TooLargeError
from edged.processing.binary_document import MAX_BYTES, MAX_ITEMS
from edged.processing.columns import Parse
from edged.processing.json_text import MAX_DEPTH

MAX_DESCRIPTOR_BYTES = 1 << 20
"""Of a set with all that it imports; a hundred files have a tenth of that."""


def protobuf_parser(descriptors: bytes, message: str) -> Parse:
    """A parser of one kind of message.

    Args:
        descriptors: a FileDescriptorSet, as ``protoc --include_imports --descriptor_set_out``
            writes it.
        message: the message's full name, ``package.Name``.

    Raises:
        FieldError: ``codec``: the library is missing; ``schema.descriptors``, ``schema.message``.
    """
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # noqa: PLC0415
        from google.protobuf.message import DecodeError as WireError  # noqa: PLC0415
    except ImportError as exc:
        raise FieldError(
            "codec",
            'protobuf payloads need protobuf; install it with: pip install "edged[protobuf]"',
        ) from exc
    if len(descriptors) > MAX_DESCRIPTOR_BYTES:
        text = f"{len(descriptors)} bytes; the limit is {MAX_DESCRIPTOR_BYTES}"
        raise FieldError("schema.descriptors", text)
    try:
        pool = descriptor_pool.DescriptorPool()
        for file in descriptor_pb2.FileDescriptorSet.FromString(descriptors).file:
            pool.Add(file)
    except (WireError, TypeError, KeyError, ValueError) as exc:
        raise FieldError(
            "schema.descriptors",
            f"is no set of descriptors with all that it imports ({str(exc)[:200]}); write it with "
            "protoc --include_imports --descriptor_set_out",
        ) from exc
    try:
        kind = message_factory.GetMessageClass(pool.FindMessageTypeByName(message))
    except (KeyError, TypeError) as exc:
        text = f'the descriptors have no message "{message}"; expected package.Name'
        raise FieldError("schema.message", text) from exc

    def parse_protobuf(payload: bytes) -> Any:
        if len(payload) > MAX_BYTES:
            text = f"a protobuf payload of {len(payload)} bytes; the limit is {MAX_BYTES}"
            raise TooLargeError(text)
        try:
            found = kind.FromString(payload)
        except (WireError, ValueError) as exc:
            raise DecodeError(f"the payload is no {message}: {str(exc)[:200]}") from exc
        return _Walk(message).document(found, 0)

    return parse_protobuf


class _Walk:
    """One message to a document; items are counted over all of it."""

    def __init__(self, name: str) -> None:
        self._name, self._left = name, MAX_ITEMS

    def document(self, message: Any, depth: int) -> dict[str, Any]:
        if depth >= MAX_DEPTH:
            raise DecodeError(f"the payload nests deeper than {MAX_DEPTH} levels")
        found: dict[str, Any] = {}
        for field in message.DESCRIPTOR.fields:
            self._count(1)
            if field.has_presence and not message.HasField(field.name):
                continue
            found[field.name] = self._field(field, getattr(message, field.name), depth)
        return found

    def _field(self, field: Any, value: Any, depth: int) -> Any:
        kind = field.message_type
        if kind is not None and kind.GetOptions().map_entry:
            self._count(len(value))
            inner = kind.fields_by_name["value"]
            return {str(key): self._one(inner, value[key], depth) for key in value}
        if hasattr(value, "__len__") and not isinstance(value, str | bytes):
            self._count(len(value))
            return [self._one(field, item, depth) for item in value]
        return self._one(field, value, depth)

    def _one(self, field: Any, value: Any, depth: int) -> Any:
        if field.message_type is not None:
            return self.document(value, depth + 1)
        if isinstance(value, float) and not math.isfinite(value):
            raise DecodeError(f"{self._name}.{field.name} holds {value}; leave the field out")
        return value

    def _count(self, items: int) -> None:
        self._left -= items
        if self._left < 0:
            raise TooLargeError(f"the payload holds more than {MAX_ITEMS} items")
