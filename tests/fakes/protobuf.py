"""The same messages for Google's library, made from our tables in a pool of their own."""

from __future__ import annotations

from typing import Any

import pytest

from edged.protocol.protobuf import Kind, Schema

KINDS = {
    Kind.BOOL: 8, Kind.INT: 3, Kind.UINT: 4, Kind.DOUBLE: 1, Kind.FLOAT: 2, Kind.STRING: 9,
    Kind.BYTES: 12, Kind.MESSAGE: 11, Kind.MAP: 11,
}  # fmt: skip


def google(schema: Schema) -> Any:
    """The class of Google's library for a message."""
    pool_of = pytest.importorskip("google.protobuf.descriptor_pool")
    from google.protobuf import descriptor_pb2, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="own.proto", package="own", syntax="proto3")
    _declare(file.message_type.add(name="Own"), schema, "own.Own")
    pool = pool_of.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("own.Own"))


def _declare(message: Any, schema: Schema, path: str) -> None:
    if schema.is_choice:
        message.oneof_decl.add(name="choice")
    for number, field in schema.fields.items():
        many = field.many or field.kind is Kind.MAP
        entry = message.field.add(
            name=field.name, number=number, type=KINDS[field.kind], label=3 if many else 1
        )
        if schema.is_choice:
            entry.oneof_index = 0
        if field.schema is not None:
            is_map = field.kind is Kind.MAP
            # A map's message has to be called so.
            camel = "".join(part.capitalize() for part in field.name.split("_"))
            name = f"{camel}Entry" if is_map else f"Of{number}"
            entry.type_name = f".{path}.{name}"
            nested = message.nested_type.add(name=name)
            nested.options.map_entry = is_map
            _declare(nested, field.schema, f"{path}.{name}")
