"""Sparkplug B payloads: read as a document, each metric by its name, and written.

Decides which metrics are values: numbers, booleans and texts, and times in milliseconds. A metric
that is null is absent. What an alias stands for was said in another message, and
``sparkplug_births.py`` has put the names in before a payload comes here. Sequence numbers are for
those who keep a node's whole state, and are not looked at.
Source: Sparkplug 3.0, 6.4 "Payloads", sparkplug_b.proto.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from edged.errors import DecodeError, TooLargeError
from edged.protocol.protobuf import Field, Kind, Schema, decode, encode

MAX_BYTES: Final = 1 << 20
"""Some ten thousand metrics; no more fields are read anyway."""
_METRIC: Final = Schema(
    {
        1: Field("name", Kind.STRING),
        2: Field("alias", Kind.UINT),
        3: Field("timestamp", Kind.UINT),
        4: Field("datatype", Kind.UINT),
        7: Field("is_null", Kind.BOOL),
        10: Field("int_value", Kind.UINT),
        11: Field("long_value", Kind.UINT),
        12: Field("float_value", Kind.FLOAT),
        13: Field("double_value", Kind.DOUBLE),
        14: Field("boolean_value", Kind.BOOL),
        15: Field("string_value", Kind.STRING),
    }
)
_PAYLOAD: Final = Schema(
    {
        1: Field("timestamp", Kind.UINT),
        2: Field("metrics", Kind.MESSAGE, many=True, schema=_METRIC),
        3: Field("seq", Kind.UINT),
    }
)
_WRITTEN: Final = Schema(_METRIC.fields, is_choice=True)
"""What is given is written, be it zero or false: proto2 has it so."""
_WRITTEN_PAYLOAD: Final = Schema(
    _PAYLOAD.fields | {2: Field("metrics", Kind.MESSAGE, many=True, schema=_WRITTEN)},
    is_choice=True,
)
_SIGNED: Final = {1: 8, 2: 16, 3: 32, 4: 64}
"""Bits by datatype: Int8 to Int64, which travel as two's complement in 32 or 64 bits."""
_VALUES: Final = (
    "int_value", "long_value", "float_value", "double_value", "boolean_value", "string_value",
)  # fmt: skip
_SAME: Final = 127
"""Up to here a number is the same whether it is signed or not. Births say which it is; data may."""
_SHOWN = 64


class DataType(enum.IntEnum):
    """What a metric is, of those that we write."""

    INT64 = 4
    UINT64 = 8
    DOUBLE = 10
    BOOLEAN = 11
    STRING = 12


_FIELD_OF: Final = {
    DataType.INT64: "long_value",
    DataType.UINT64: "long_value",
    DataType.DOUBLE: "double_value",
    DataType.BOOLEAN: "boolean_value",
    DataType.STRING: "string_value",
}


class Metric(NamedTuple):
    """A metric to be written.

    Args:
        name: None where the alias says it.
        kind: what it is.
        value: None is null.
        alias: the number it goes by.
    """

    name: str | None
    kind: DataType
    value: float | bool | str | None
    alias: int | None = None


def encode_sparkplug(metrics: Sequence[Metric], at_ms: int, seq: int | None = None) -> bytes:
    """Write a payload.

    Args:
        metrics: each has the payload's time.
        at_ms: since 1970.
        seq: its number among the node's messages; None for deaths and commands.
    """
    written = [
        {
            "name": one.name,
            "alias": one.alias,
            "timestamp": at_ms,
            "datatype": int(one.kind),
            ("is_null" if one.value is None else _FIELD_OF[one.kind]): (
                True if one.value is None else one.value
            ),
        }
        for one in metrics
    ]
    return encode(_WRITTEN_PAYLOAD, {"timestamp": at_ms, "metrics": written, "seq": seq})


def read_metrics(payload: bytes) -> dict[str, Any]:
    """A payload as it is: ``timestamp``, ``seq`` and ``metrics``, each by the fields of protobuf.

    Raises:
        TooLargeError: over MAX_BYTES.
        DecodeError: no such payload.
    """
    if len(payload) > MAX_BYTES:
        raise TooLargeError(
            f"a Sparkplug payload of {len(payload)} bytes; the limit is {MAX_BYTES}"
        )
    return decode(_PAYLOAD, payload)


def write_metrics(found: dict[str, Any]) -> bytes:
    """The payload of what ``read_metrics`` gave."""
    return encode(_WRITTEN_PAYLOAD, found)


def parse_sparkplug(payload: bytes) -> dict[str, Any]:
    """Read a payload; ``timestamp`` is that of the payload where no metric has that name.

    Raises:
        TooLargeError: over MAX_BYTES.
        DecodeError: no such payload, a metric without name, or one that stands twice.
    """
    found = read_metrics(payload)
    document: dict[str, Any] = {}
    for metric in found.get("metrics", ()):
        name = metric.get("name", "")
        if not name:
            alias = f" (alias {metric['alias']})" if "alias" in metric else ""
            raise DecodeError(f"a metric without a name{alias}; publish names instead of aliases")
        if name in document:
            raise DecodeError(f"the metric {name[:_SHOWN]!a} stands twice")
        document[name] = _value(name, metric)
    if "timestamp" in found:
        document.setdefault("timestamp", found["timestamp"])
    return document


def _value(name: str, metric: dict[str, Any]) -> Any:
    if metric.get("is_null"):
        return None
    value: Any = next((metric[one] for one in _VALUES if one in metric), None)
    kind = metric.get("datatype", 0)
    bits = _SIGNED.get(kind, 0)
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if is_whole and not kind and value > _SAME:
        text = f"the metric {name[:_SHOWN]!a} is a whole number without datatype"
        raise DecodeError(f"{text}, which may be negative; publish the datatype along, or a float")
    if bits and is_whole:
        value &= (1 << bits) - 1
        return value - (1 << bits) if value >> (bits - 1) else value
    if isinstance(value, float) and not math.isfinite(value):
        raise DecodeError(f"the metric {name[:_SHOWN]!a} is {value}; say that it is null")
    return value
