"""Protobuf's wire format, as far as the Open Inference Protocol needs it: messages as plain dicts.

Messages are described by tables (``oip_messages.py``), so nothing is registered anywhere and no
library's own definitions of the same messages are in the way. Groups are refused, unknown fields
passed over. Bytes are views of what came, and numbers of repeated fields stay packed until somebody
wants them.
Source: protobuf.dev, "Encoding" and "Proto3 language guide".
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from edged.errors import DecodeError
from edged.protocol.frames import Buffer
from edged.tensors import Array

FIELDS_CAP: Final = 16_384
"""Fields of one message with all that is in it, each a few microseconds of the loop. One for 64
inputs with parameters has some hundred; numbers that are packed count as one."""
_BLOCK_BYTES: Final = 1 << 18
"""Packed numbers are unpacked in blocks: that takes twenty times their bytes beside them."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class Kind(enum.Enum):
    """What a field holds."""

    BOOL = enum.auto()
    INT = enum.auto()
    """int64, int32 and enumerations."""
    UINT = enum.auto()
    DOUBLE = enum.auto()
    FLOAT = enum.auto()
    STRING = enum.auto()
    BYTES = enum.auto()
    MESSAGE = enum.auto()
    MAP = enum.auto()
    """From strings to whatever the field 2 of its schema is."""


_WIRE: Final = {
    Kind.BOOL: _VARINT,
    Kind.INT: _VARINT,
    Kind.UINT: _VARINT,
    Kind.DOUBLE: _FIXED64,
    Kind.FLOAT: _FIXED32,
    Kind.STRING: _BYTES,
    Kind.BYTES: _BYTES,
    Kind.MESSAGE: _BYTES,
    Kind.MAP: _BYTES,
}
_FIXED: Final = {Kind.DOUBLE: struct.Struct("<d"), Kind.FLOAT: struct.Struct("<f")}
_ONE: Final = [bytes([value]) for value in range(128)]


class Field(NamedTuple):
    """One field of a message.

    Args:
        name: its key in a decoded message.
        kind: of one value.
        many: whether it is repeated; numbers are then a packed buffer when decoded, and a sequence
            when encoded.
        schema: of a message, or of a map's entries.
    """

    name: str
    kind: Kind
    many: bool = False
    schema: Schema | None = None


class Schema:
    """A message.

    Args:
        fields: by their numbers.
        is_choice: whether they are one ``oneof``: the last that was sent is the only one, and one
            that is sent is there, whatever its value.
    """

    def __init__(self, fields: Mapping[int, Field], *, is_choice: bool = False) -> None:
        self.fields = dict(fields)
        self.is_choice = is_choice
        self.numbers = {field.name: number for number, field in fields.items()}
        self.tags = {
            field.name: varint(number << 3 | (_BYTES if field.many else _WIRE[field.kind]))
            for number, field in fields.items()
        }


def varint(value: int) -> bytes:
    """A number from 0, seven bits to the byte."""
    if value < 128:
        return _ONE[value]
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode(schema: Schema, data: Buffer) -> dict[str, Any]:
    """Read a message; fields that were not sent are absent.

    Args:
        schema: what it should be.
        data: all of it. Bytes of the result are views of it.

    Raises:
        DecodeError: it is no such message, or has too many fields.
    """
    return _Reader(data).message(schema, 0, len(data), {})


class _Reader:
    """Reads one message and those inside it."""

    def __init__(self, data: Buffer) -> None:
        self._data = data
        self._view = memoryview(data)
        self._left = FIELDS_CAP

    def message(self, schema: Schema, at: int, end: int, found: dict[str, Any]) -> dict[str, Any]:
        """Read what lies between two places into ``found``."""
        data, fields = self._data, schema.fields
        while at < end:
            tag = data[at]
            at += 1
            if tag > 127:
                tag, at = self._varint(at - 1, end)
            wire = tag & 7
            if not 8 <= tag <= 0xFFFFFFFF:
                raise _malformed(at, "a field's number is out of range")
            self._left -= 1
            if self._left < 0:
                text = f"Unable to parse the message: it has more than {FIELDS_CAP} fields"
                raise DecodeError(f"{text}; send tensors as raw_input_contents")
            start = at
            value = 0
            if wire == _BYTES:
                value, start = self._varint(at, end)
                at = start + value
            elif wire == _VARINT:
                value, at = self._varint(at, end)
            elif wire == _FIXED64:
                at += 8
            elif wire == _FIXED32:
                at += 4
            else:
                raise _malformed(at, "there is a group")
            if at > end:
                raise _malformed(start, "it ends inside a field")
            field = fields.get(tag >> 3)
            if field is not None:
                if schema.is_choice and wire == _WIRE[field.kind]:
                    found.clear()
                self._take(field, wire, (value, start, at), found)
        return found

    def _take(
        self, field: Field, wire: int, found_at: tuple[int, int, int], found: dict[str, Any]
    ) -> None:
        """One field that is known; of another wire type it is as good as unknown."""
        name, kind, many, inner = field
        value, start, end = found_at
        expected = _WIRE[kind]
        if expected != _BYTES and many:
            if wire in (expected, _BYTES):
                self._pack(name, start, end, found)
            return
        if wire != expected:
            return
        one: Any
        if kind is Kind.STRING:
            try:
                one = str(self._view[start:end], "utf-8")
            except UnicodeDecodeError:
                raise _malformed(start, f"{name} is not UTF-8") from None
        elif kind is Kind.BYTES:
            one = self._view[start:end]
        elif inner is not None:
            self._nested(field, inner, start, end, found)
            return
        elif kind is Kind.BOOL:
            one = value != 0
        elif kind is Kind.INT:
            one = value - (1 << 64) if value >> 63 else value
        elif kind is Kind.UINT:
            one = value
        else:
            (one,) = _FIXED[kind].unpack_from(self._data, start)
        if many:
            found.setdefault(name, []).append(one)
        else:
            found[name] = one

    def _nested(
        self, field: Field, inner: Schema, start: int, end: int, found: dict[str, Any]
    ) -> None:
        name = field.name
        if field.kind is Kind.MAP:
            entry = self.message(inner, start, end, {})
            value = entry.get("value", {} if inner.fields[2].schema else "")
            found.setdefault(name, {})[entry.get("key", "")] = value
        elif field.many:
            found.setdefault(name, []).append(self.message(inner, start, end, {}))
        else:
            # Twice the same one is one with the fields of both.
            found[name] = self.message(inner, start, end, found.get(name) or {})

    def _pack(self, name: str, start: int, end: int, found: dict[str, Any]) -> None:
        """Numbers of a repeated field, together or one by one."""
        before = found.get(name)
        if before is None:
            found[name] = self._view[start:end]
            return
        if not isinstance(before, bytearray):
            before = found[name] = bytearray(before)
        before += self._view[start:end]

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        """A number of at most 64 bits, and where it ends."""
        data, value, shift = self._data, 0, 0
        while at < end:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                if value >> 64:
                    break
                return value, at
            shift += 7
            if shift > 63:
                break
        raise _malformed(at, "a number does not end, or is longer than 64 bits")


def numbers(packed: Buffer, dtype: np.dtype[Any], kind: Kind, count: int) -> Array:
    """Unpack the numbers of a repeated field.

    Args:
        packed: as decoded; empty for none.
        dtype: what they become.
        kind: as what they were sent.
        count: how many they have to be.

    Raises:
        DecodeError: they are more or less, or one does not fit the dtype.
    """
    if kind in _FIXED:
        size = _FIXED[kind].size
        if len(packed) != count * size:
            raise DecodeError(f"{len(packed) / size:g} values; its shape has {count}")
        array = np.frombuffer(packed, "<f8" if kind is Kind.DOUBLE else "<f4")
        return array.astype(dtype, copy=False)
    raw = np.frombuffer(packed, np.uint8)
    is_last = raw < 128
    if len(raw) and not is_last[-1]:
        raise _malformed(len(raw), "the last number does not end")
    if (found := int(np.count_nonzero(is_last))) != count:
        raise DecodeError(f"{found} values; its shape has {count}")
    if found == len(raw):  # all of them one byte: the common case of small numbers
        return _fitting(raw, dtype)
    array = np.empty(count, dtype)
    ends, start, done = np.flatnonzero(is_last), 0, 0
    while done < count:
        # As many as end within the block, at least one.
        until = max(done + 1, int(np.searchsorted(ends, start + _BLOCK_BYTES)))
        block = ends[done:until] - start
        stop = start + int(block[-1]) + 1
        array[done:until] = _fitting(_unpacked(raw[start:stop], block, kind), dtype)
        start, done = stop, until
    return array


def few(packed: Buffer, most: int) -> list[int]:
    """The whole numbers of a short repeated field, as int64.

    Raises:
        DecodeError: there are more than ``most``, or they are malformed.
    """
    reader, at, end = _Reader(packed), 0, len(packed)
    found: list[int] = []
    while at < end:
        value, at = reader._varint(at, end)  # noqa: SLF001 - one file
        if len(found) == most:
            raise DecodeError(f"more than {most} values")
        found.append(value - (1 << 64) if value >> 63 else value)
    return found


def encode(schema: Schema, values: Mapping[str, Any]) -> bytes:
    """Write a message; what is empty, zero or false is left out, as proto3 has it.

    Args:
        schema: its fields are written in their order.
        values: by name; what is no field of it is left out.
    """
    parts: list[bytes] = []
    for number, field in schema.fields.items():
        value, kind = values.get(field.name), field.kind
        if value is None or not (value or schema.is_choice or kind is Kind.MESSAGE):
            continue
        tag = schema.tags[field.name]
        if kind is Kind.MAP and field.schema is not None:
            for key, one in value.items():
                entry = encode(field.schema, {"key": key, "value": one})
                # An entry says what it holds, be it empty.
                parts += (tag, varint(len(entry)), entry)
        elif not field.many:
            parts += (tag, _value(field, value))
        elif _WIRE[kind] == _BYTES:
            for one in value:
                parts += (tag, _value(field, one))
        else:
            packed = b"".join([_value(field, one) for one in value])
            parts += (varint(number << 3 | _BYTES), varint(len(packed)), packed)
    return b"".join(parts)


def _value(field: Field, value: Any) -> bytes:
    kind = field.kind
    if field.schema is not None:
        data = encode(field.schema, value)
    elif kind is Kind.STRING:
        data = value.encode()
    elif kind is Kind.BYTES:
        data = bytes(value)
    elif kind in _FIXED:
        return _FIXED[kind].pack(value)
    else:
        return varint(int(value) & 0xFFFFFFFFFFFFFFFF)
    return varint(len(data)) + data


def _unpacked(raw: Array, ends: Array, kind: Kind) -> Array:
    """Numbers of several bytes; ``ends`` are the places of their last ones."""
    starts = np.empty_like(ends)
    starts[0], starts[1:] = 0, ends[:-1] + 1
    lengths = ends - starts + 1
    longest = int(lengths.max())
    if longest > 10 or (longest == 10 and raw[ends[lengths == 10]].max() > 1):
        raise _malformed(0, "a number is longer than 64 bits")
    found = np.zeros(len(ends), np.uint64)
    for place in range(longest):
        has = lengths > place
        bits = (raw[starts[has] + place] & 127).astype(np.uint64)
        found[has] |= bits << np.uint64(7 * place)
    if kind is Kind.BOOL:
        return found.astype(np.bool_)
    return found.view(np.int64) if kind is Kind.INT else found


def _fitting(values: Array, dtype: np.dtype[Any]) -> Array:
    if dtype.kind == "b":
        return values.astype(np.bool_)
    info = np.iinfo(dtype)
    if values.size and (values.min() < info.min or values.max() > info.max):
        raise DecodeError(f"a number is out of the range {info.min} to {info.max}")
    return values.astype(dtype)


def _malformed(at: int, what: str) -> DecodeError:
    return DecodeError(f"Unable to parse the message: {what} (byte {at})")
