"""A look at an ONNX file before any runtime sees it: a small walk over its protobuf messages.

Decides whether a model keeps to its bundle: weights kept outside lie in a named member, within its
size; operators come from domains that need no library. The walk goes through every graph,
sub-graph, function, sparse tensor and attribute, knows every field it passes, and refuses what it
does not know: a field we skip could be one that a runtime follows. Runs no model code and needs no
onnx package. Source: onnx.proto; the tests hold the table against it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, NoReturn

from edged.errors import ManifestError

DEPTH_CAP = 90
"""Messages within messages. Protobuf's own limit is 100; a sub-graph takes three."""
FIELDS_CAP = 5_000_000
"""Bounds the time of the walk to some 20 s; a forest of a million nodes has two million of them."""
RANK_CAP = 64
"""NumPy's own limit. The product of a hundred thousand axes takes minutes."""

DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
"""Operator sets that every ONNX Runtime has built in and that do nothing but compute."""
_MICROSOFT = """
    Attention BiasGelu BiasSoftmax CDist DequantizeLinear DynamicQuantizeLSTM
    DynamicQuantizeMatMul EmbedLayerNormalization FastGelu FusedConv FusedGemm FusedMatMul Gelu
    GroupQueryAttention MatMulInteger16 MatMulIntegerToFloat MatMulNBits MultiHeadAttention
    NhwcMaxPool QAttention QEmbedLayerNormalization QGemm QLinearAdd QLinearAveragePool
    QLinearConcat QLinearGlobalAveragePool QLinearLeakyRelu QLinearMul QLinearReduceMean
    QLinearSigmoid QLinearSoftmax QLinearWhere QuantizeLinear QuickGelu RotaryEmbedding
    SimplifiedLayerNormalization SkipLayerNormalization SkipSimplifiedLayerNormalization
"""
MICROSOFT_OPERATORS = frozenset(_MICROSOFT.split())
"""Of the domain com.microsoft: what quantisers and optimisers write, arithmetic only. Left out on
purpose: EPContext (names a compiled blob by path) and everything else that does more than that."""

_INT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class Field(NamedTuple):
    """One field of a message: its wire type, whether it repeats, and the message inside."""

    wire: int
    repeats: bool = False
    message: str = ""


def _one(wire: int, *numbers: int) -> dict[int, Field]:
    return {number: Field(wire) for number in numbers}


def _many(wire: int, *numbers: int) -> dict[int, Field]:
    return {number: Field(wire, repeats=True) for number in numbers}


def _in(**numbers: int) -> dict[int, Field]:
    return {number: Field(_BYTES, message=name) for name, number in numbers.items()}


def _each(**numbers: int) -> dict[int, Field]:
    return {number: Field(_BYTES, repeats=True, message=name) for name, number in numbers.items()}


MESSAGES: dict[str, dict[int, Field]] = {
    "model": {
        **_one(_INT, 1, 5),
        **_one(_BYTES, 2, 3, 4, 6),
        **_in(graph=7),
        **_each(opset=8, entry=14, training=20, function=25),
        **_many(_BYTES, 26),
    },
    "graph": {
        **_each(node=1, tensor=5, sparse=15, entry=16),
        **_one(_BYTES, 2, 10),
        **_many(_BYTES, 11, 12, 13, 14),
    },
    "node": {
        **_many(_BYTES, 1, 2, 10),
        **_one(_BYTES, 3, 4, 6, 7, 8),
        **_each(attribute=5, entry=9),
    },
    "attribute": {
        **_one(_BYTES, 1, 4, 13, 14, 21),
        **_one(_FIXED32, 2),
        **_one(_INT, 3, 20),
        **_many(_FIXED32, 7),
        **_many(_INT, 8),
        **_many(_BYTES, 9, 15),
        **_in(tensor=5, graph=6, sparse=22),
        **_each(tensor=10, graph=11, sparse=23),
    },
    "tensor": {
        **_many(_INT, 1, 5, 7, 11),
        **_one(_INT, 2, 14),
        **_one(_BYTES, 3, 8, 9, 12),
        **_many(_FIXED32, 4),
        **_many(_FIXED64, 10),
        **_many(_BYTES, 6),
        **_each(entry=13),
        **_many(_BYTES, 16),
    },
    "sparse": {1: Field(_BYTES, message="tensor"), 2: Field(_BYTES, message="tensor")}
    | _many(_INT, 3),
    "function": {
        **_one(_BYTES, 1, 8, 10, 13),
        **_many(_BYTES, 4, 5, 6, 12),
        **_each(node=7, opset=9, attribute=11, entry=14),
    },
    "training": {
        1: Field(_BYTES, message="graph"),
        2: Field(_BYTES, message="graph"),
        **_many(_BYTES, 3, 4),
    },
    "entry": _one(_BYTES, 1, 2),
    "opset": {**_one(_BYTES, 1), **_one(_INT, 2)},
}
"""Every field of the messages that can hold a tensor, a node or a graph, by its number."""

_KEPT: dict[str, tuple[int, ...]] = {
    "model": (1, 7, 8, 14),
    "node": (4, 7),
    "function": (1, 10),
    "tensor": (1, 2, 13, 14),
    "entry": (1, 2),
}
"""Fields whose values the rules below look at."""

# A forest writes its numbers one field each; a run of them is taken in one step.
_RUNS = {
    ("attribute", 7): re.compile(rb"(?:\x3d.{4})+", re.DOTALL),
    ("attribute", 8): re.compile(rb"(?:\x40[\x80-\xff]{0,9}[\x00-\x7f])+"),
}
_BITS = {
    **dict.fromkeys((1, 6, 12), 32),
    **dict.fromkeys((2, 3, 9, 17, 18, 19, 20, 24), 8),
    **dict.fromkeys((4, 5, 10, 16), 16),
    **dict.fromkeys((7, 11, 13, 14), 64),
    **dict.fromkeys((21, 22, 23), 4),
    **dict.fromkeys((25, 26), 2),
    **dict.fromkeys((27, 28), 6),
    15: 128,
}
"""Bits of one element by TensorProto.DataType; a type that is not here cannot lie outside."""
_EXTERNAL = 1
_LOCATION_KEYS = ("location", "offset", "length", "checksum")
_NUMBER = re.compile(rb"[0-9]{1,19}")

Values = dict[int, list[Any]]


def check_onnx(data: bytes, members: Mapping[str, int]) -> None:
    """Refuse a model that reaches out of its bundle or is not wholly there.

    Args:
        data: the whole file.
        members: the members that may hold its weights, name to size in bytes.

    Raises:
        ManifestError: says what was found and where.
    """
    if data[4:8] == b"ORTM":
        raise ManifestError("this is a runtime's own format, not ONNX; put the ONNX file in")
    walk = _Walk(data, members)
    values = walk.message("model", 0, len(data), 0)
    parts = ((1, "IR version"), (7, "graph"), (8, "operator sets"))
    missing = [name for number, name in parts if not values[number]]
    if missing:
        raise ManifestError(
            f"not a whole ONNX model: no {', no '.join(missing)} (empty or cut off?)"
        )
    walk.check_operators()


class _Walk:
    """One pass over one file."""

    def __init__(self, data: bytes, members: Mapping[str, int]) -> None:
        self._data = data
        self._members = members
        self._count = 0
        self._nodes: dict[tuple[str, str], int] = {}
        self._functions: set[tuple[str, str]] = set()

    def message(self, kind: str, start: int, end: int, depth: int) -> Values:
        """Walk one message and all in it; returns the values of its fields in _KEPT."""
        if depth > DEPTH_CAP:
            self._fail(start, f"messages nest deeper than {DEPTH_CAP}")
        kept: Values = {number: [] for number in _KEPT.get(kind, ())}
        for number, field, wire, value, at, stop in self._fields(kind, start, end):
            if field.message:
                inner = self.message(field.message, at, stop, depth + 1)
                if number in kept:
                    kept[number].append(inner)
            elif number in kept:
                if wire != _BYTES:
                    kept[number].append(value)
                elif field.wire == _BYTES:
                    kept[number].append(self._data[at:stop])
                else:
                    kept[number].extend(self._packed(at, stop))
        self._look_at(kind, start, kept)
        return kept

    def check_operators(self) -> None:
        """Hold every operator that occurs against the domains and the model's own functions."""
        for (domain, operator), at in self._nodes.items():
            if domain in DOMAINS:
                continue
            if domain == "com.microsoft":
                if operator in MICROSOFT_OPERATORS:
                    continue
            elif (domain, operator) in self._functions:
                continue
            self._fail(
                at,
                f"operator {operator[:64]!r} of domain {domain[:64]!r} is not one that is built "
                "in and only computes; export the model without custom operators",
            )

    def _look_at(self, kind: str, start: int, kept: Values) -> None:
        if kind == "tensor":
            if len(kept[1]) > RANK_CAP:
                self._fail(start, f"a tensor has more than {RANK_CAP} axes")
            if kept[13] or _EXTERNAL in kept[14]:
                self._check_external(start, kept)
        elif kind == "node":
            self._nodes.setdefault((_text(kept[7]), _text(kept[4])), start)
        elif kind == "function":
            self._functions.add((_text(kept[10]), _text(kept[1])))
        elif kind == "model" and any(_text(entry[1]) == "ort_config" for entry in kept[14]):
            self._fail(start, 'metadata "ort_config" would set options of the runtime')

    def _check_external(self, start: int, tensor: Values) -> None:
        entries: dict[str, bytes] = {}
        for entry in tensor[13]:
            key = _text(entry[1])
            if key not in _LOCATION_KEYS or key in entries:
                known = ", ".join(_LOCATION_KEYS)
                self._fail(start, f"external data key {key[:32]!r}; expected each once: {known}")
            entries[key] = b"".join(entry[2])
        name = entries.get("location", b"").decode("utf-8", "replace")
        size = self._members.get(name)
        if size is None:
            self._fail(
                start,
                f"external data in {name[:64]!r}: not the plain name of an onnx-data member of "
                "this bundle",
            )
        offset = self._number(start, "offset", entries.get("offset", b"0"))
        # A negative dimension reads as a huge one here, and so fits into no member.
        count = math.prod(tensor[1])
        bits = _BITS.get(tensor[2][0] if tensor[2] else 0)
        if bits is None:
            self._fail(start, "external data of a type that cannot lie outside the model")
        wanted = (count * bits + 7) // 8
        length = wanted
        if "length" in entries:
            length = self._number(start, "length", entries["length"])
        if length < wanted or offset + length > size:
            self._fail(
                start,
                f"external data at {offset}, {length} bytes (the tensor has {wanted}) does not lie "
                f'inside "{name}" of {size} bytes',
            )

    def _number(self, start: int, key: str, text: bytes) -> int:
        if not _NUMBER.fullmatch(text):
            self._fail(start, f"external data {key} {text[:32]!r}: expected a plain number")
        return int(text)

    def _fields(
        self, kind: str, at: int, end: int
    ) -> Iterator[tuple[int, Field, int, int, int, int]]:
        """Each field of a message: number, law, wire type, number value, and where it lies."""
        table = MESSAGES[kind]
        seen: set[int] = set()
        while at < end:
            self._count += 1
            tag_at = at
            tag, at = self._varint(at, end)
            number, wire = tag >> 3, tag & 7
            field = table.get(number)
            if field is None or self._count > FIELDS_CAP:
                self._fail(tag_at, f"unknown field {number} in a {kind}, or too many fields")
            is_packed = wire == _BYTES and field.repeats and field.wire != _BYTES
            # Parsers merge a message that comes twice; a check of each half would miss the whole.
            if (wire != field.wire and not is_packed) or number in seen:
                self._fail(tag_at, f"field {number} of a {kind} is of another type or comes twice")
            if not field.repeats:
                seen.add(number)
            run = None if is_packed else _RUNS.get((kind, number))
            match = run.match(self._data, tag_at, end) if run else None
            if match:
                at = match.end()
                continue
            value, value_at, at = self._value(wire, at, end)
            yield number, field, wire, value, value_at, at

    def _value(self, wire: int, at: int, end: int) -> tuple[int, int, int]:
        """A number's value (or 0), and the value's first and last + 1 byte."""
        if wire == _INT:
            value, stop = self._varint(at, end)
            return value, at, stop
        size = 8 if wire == _FIXED64 else 4
        if wire == _BYTES:
            size, at = self._varint(at, end)
        if at + size > end:
            self._fail(at, f"{size} bytes announced, {end - at} left: the file is cut off")
        return 0, at, at + size

    def _packed(self, at: int, end: int) -> list[int]:
        values: list[int] = []
        while at < end and len(values) <= RANK_CAP:  # only axes are kept, and more are refused
            value, at = self._varint(at, end)
            values.append(value)
        return values

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = shift = 0
        while at < end and shift < 64:
            byte = self._data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & 0xFFFF_FFFF_FFFF_FFFF, at
            shift += 7
        return self._fail(at, "a number is cut off or has more than 64 bits")

    def _fail(self, at: int, message: str) -> NoReturn:
        raise ManifestError(f"ONNX file, byte {at}: {message}")


def _text(values: list[Any]) -> str:
    return values[0].decode("utf-8", "replace") if values else ""
