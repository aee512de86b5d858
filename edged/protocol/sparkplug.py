"""A Sparkplug B payload as a document: each metric by its name.

Decides which metrics are values: numbers, booleans and texts, and times in milliseconds. A metric
that is null is absent. Aliases are refused: what they stand for was said in another message, by a
node that may have been born before us; nodes publish names where they use no aliases. Sequence
numbers are for those who keep a node's whole state, and are not looked at.
Source: Sparkplug 3.0, 6.4 "Payloads", sparkplug_b.proto.
"""

from __future__ import annotations

import math
from typing import Any, Final

from edged.errors import DecodeError, TooLargeError
from edged.protocol.protobuf import Field, Kind, Schema, decode

MAX_BYTES: Final = 1 << 20
"""Some ten thousand metrics; no more fields are read anyway."""
_METRIC: Final = Schema(
    {
        1: Field("name", Kind.STRING),
        2: Field("alias", Kind.UINT),
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
    {1: Field("timestamp", Kind.UINT), 2: Field("metrics", Kind.MESSAGE, many=True, schema=_METRIC)}
)
_SIGNED: Final = {1: 8, 2: 16, 3: 32, 4: 64}
"""Bits by datatype: Int8 to Int64, which travel as two's complement in 32 or 64 bits."""
_VALUES: Final = (
    "int_value", "long_value", "float_value", "double_value", "boolean_value", "string_value",
)  # fmt: skip
_SAME: Final = 127
"""Up to here a number is the same whether it is signed or not. Births say which it is; data may."""
_SHOWN = 64


def parse_sparkplug(payload: bytes) -> dict[str, Any]:
    """Read a payload; ``timestamp`` is that of the payload where no metric has that name.

    Raises:
        TooLargeError: over MAX_BYTES.
        DecodeError: no such payload, a metric without name, or one that stands twice.
    """
    if len(payload) > MAX_BYTES:
        raise TooLargeError(
            f"a Sparkplug payload of {len(payload)} bytes; the limit is {MAX_BYTES}"
        )
    found = decode(_PAYLOAD, payload)
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
