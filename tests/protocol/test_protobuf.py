"""Our protobuf against Google's, and against messages that are none."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.errors import DecodeError
from edged.protocol.oip_messages import CONTENTS, INFER_REQUEST, MODEL_CONFIG, NAME_VERSION
from edged.protocol.protobuf import (
    FIELDS_CAP,
    Field,
    Kind,
    Schema,
    decode,
    encode,
    few,
    numbers,
    varint,
)
from tests.fakes.protobuf import google

pytest.importorskip("google.protobuf")

GOOGLE = google(INFER_REQUEST)
INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
UINT64 = st.integers(0, (1 << 64) - 1)
WORDS = st.text(max_size=8)
PARAMETER = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"bool": st.booleans()}),
    st.fixed_dictionaries({"int64": INT64}),
    st.fixed_dictionaries({"string": WORDS}),
    st.fixed_dictionaries({"double": st.floats(allow_nan=False)}),
    st.fixed_dictionaries({"uint64": UINT64}),
)
PARAMETERS = st.dictionaries(WORDS, PARAMETER, max_size=3)
CONTENT = {
    "bool_contents": st.booleans(),
    "int64_contents": INT64,
    "uint64_contents": UINT64,
    "fp32_contents": st.floats(width=32, allow_nan=False),
    "fp64_contents": st.floats(allow_nan=False),
    "bytes_contents": st.binary(max_size=5),
}
LISTS = {name: st.lists(one, max_size=4) for name, one in CONTENT.items()}
INPUT = st.fixed_dictionaries(
    {},
    optional={
        "name": WORDS, "datatype": WORDS, "shape": st.lists(INT64, max_size=4),
        "parameters": PARAMETERS, "contents": st.fixed_dictionaries({}, optional=LISTS),
    },
)  # fmt: skip
REQUEST = st.fixed_dictionaries(
    {},
    optional={
        "model_name": WORDS, "model_version": WORDS, "id": WORDS, "parameters": PARAMETERS,
        "inputs": st.lists(INPUT, max_size=3),
        "outputs": st.lists(
            st.fixed_dictionaries({}, optional={"name": WORDS, "parameters": PARAMETERS}),
            max_size=2,
        ),
        "raw_input_contents": st.lists(st.binary(max_size=200), max_size=3),
    },
)  # fmt: skip


def plain(schema: Schema, found: dict[str, Any]) -> dict[str, Any]:
    """A decoded message with everything unpacked; what is empty left out."""
    fields = {field.name: field for field in schema.fields.values()}
    made = {name: one(fields[name], value) for name, value in found.items()}
    return {
        name: value
        for name, value in made.items()
        if value or schema.is_choice or (fields[name].schema and not fields[name].many)
    }


def one(field: Field, value: Any) -> Any:
    if field.kind is Kind.MAP:
        assert field.schema is not None
        return {key: one(field.schema.fields[2], entry) for key, entry in value.items()}
    if field.many and field.schema is not None:
        return [plain(field.schema, entry) for entry in value]
    if field.many and field.kind is Kind.BYTES:
        return [bytes(entry) for entry in value]
    if field.many and field.kind is not Kind.STRING:
        size = {Kind.DOUBLE: 8, Kind.FLOAT: 4}.get(field.kind)
        count = len(value) // size if size else sum(byte < 128 for byte in bytes(value))
        dtype = {
            Kind.BOOL: "?", Kind.INT: "i8", Kind.UINT: "u8", Kind.DOUBLE: "f8", Kind.FLOAT: "f4",
        }[field.kind]  # fmt: skip
        return numbers(value, np.dtype(dtype), field.kind, count).tolist()
    if field.schema is not None:
        return plain(field.schema, value)
    return bytes(value) if field.kind is Kind.BYTES else value


def theirs(message: Any, schema: Schema) -> dict[str, Any]:
    """Google's message in the form of ours."""
    found: dict[str, Any] = {}
    for field in schema.fields.values():
        value = getattr(message, field.name)
        if field.kind is Kind.MAP:
            assert field.schema is not None
            inner = field.schema.fields[2].schema
            made: Any = {key: theirs(value[key], inner) if inner else value[key] for key in value}
        elif field.many:
            made = [theirs(e, field.schema) if field.schema else e for e in value]
        elif field.schema is not None:
            if not message.HasField(field.name):
                continue
            found[field.name] = theirs(value, field.schema)
            continue
        elif schema.is_choice:
            if message.WhichOneof("choice") == field.name:
                found[field.name] = value
            continue
        else:
            made = value
        if made:
            found[field.name] = made
    return found


def ours(data: bytes) -> dict[str, Any]:
    return plain(INFER_REQUEST, decode(INFER_REQUEST, data))


@given(REQUEST)
def test_what_we_write_google_reads(document: dict[str, Any]) -> None:
    message = GOOGLE.FromString(encode(INFER_REQUEST, document))
    assert theirs(message, INFER_REQUEST) == ours(encode(INFER_REQUEST, document))
    # And the other way round, in whatever order and form Google writes.
    assert ours(message.SerializeToString()) == theirs(message, INFER_REQUEST)


@given(REQUEST, REQUEST)
def test_two_in_one_are_merged(first: dict[str, Any], second: dict[str, Any]) -> None:
    data = encode(INFER_REQUEST, first) + encode(INFER_REQUEST, second)
    assert ours(data) == theirs(GOOGLE.FromString(data), INFER_REQUEST)


@given(REQUEST, st.data())
def test_broken_ones_are_refused_or_read_as_google_reads_them(
    document: dict[str, Any], data: st.DataObject
) -> None:
    broken = bytearray(encode(INFER_REQUEST, document))
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(broken)))
        length = data.draw(st.integers(0, 3))
        broken[at : at + length] = data.draw(st.binary(max_size=4))
    try:
        found = ours(bytes(broken))
    except DecodeError:
        return
    expected = theirs(GOOGLE.FromString(bytes(broken)), INFER_REQUEST)
    assert repr(found) == repr(expected) or found == expected


@given(st.binary(max_size=40))
def test_noise(data: bytes) -> None:
    try:
        found = ours(data)
    except DecodeError:
        return
    assert repr(found) == repr(theirs(GOOGLE.FromString(data), INFER_REQUEST))


@pytest.mark.hostile(
    "B18 a protobuf message that is cut short, lies about its lengths or has groups"
)
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x0a", "does not end"),
        (b"\x0a\x05ab", "ends inside a field"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7fa", "ends inside"),
        (b"\x0a" + b"\xff" * 10 + b"\x01", "longer than 64"),
        (b"\x0a\x02\xc3\x28", "not UTF-8"),
        (b"\x0b\x0c", "group"),
        (b"\x02\x00", "out of range"),
        (b"\xff\xff\xff\xff\x1f\x00", "out of range"),
        (b"\x09abc", "ends inside"),
        (b"\x0dabc", "ends inside"),
        (b"\x0e", "group"),
    ],
)
def test_malformed(data: bytes, words: str) -> None:
    with pytest.raises(DecodeError, match=rf"Unable to parse the message: .*{words}"):
        decode(NAME_VERSION, data)


def test_every_cut_is_seen() -> None:
    data = encode(NAME_VERSION, {"name": "a" * 200, "version": "7"})
    for length in range(1, len(data)):
        if length in (203, len(data)):
            continue  # between two fields
        with pytest.raises(DecodeError):
            decode(NAME_VERSION, data[:length])


@pytest.mark.hostile("B19 a million fields of a gRPC message")
def test_more_fields_than_anybody_needs() -> None:
    with pytest.raises(DecodeError, match=f"more than {FIELDS_CAP} fields"):
        decode(INFER_REQUEST, b"\x3a\x00" * (FIELDS_CAP + 1))
    inner = b"\x2a\x00" * FIELDS_CAP
    entry = b"\x2a" + varint(len(inner)) + inner
    with pytest.raises(DecodeError, match="fields"):
        decode(INFER_REQUEST, entry)


def test_unknown_fields_are_passed_over() -> None:
    data = b"\x98\x06\x05" + b"\x0a\x01a" + b"\xa2\x06\x02xx" + b"\xa9\x0612345678\xad\x061234"
    assert decode(NAME_VERSION, data) == {"name": "a"}


def test_a_known_field_of_another_wire_type_is_unknown() -> None:
    assert decode(NAME_VERSION, b"\x08\x05\x12\x01b") == {"version": "b"}


def test_bytes_are_views() -> None:
    data = encode(INFER_REQUEST, {"raw_input_contents": [b"x" * 100]})
    (raw,) = decode(INFER_REQUEST, data)["raw_input_contents"]
    assert raw.obj is data


def test_a_message_without_fields_is_there() -> None:
    data = encode(MODEL_CONFIG, {"config": {"sequence_batching": {}}})
    assert decode(MODEL_CONFIG, data) == {"config": {"sequence_batching": {}}}
    assert decode(MODEL_CONFIG, encode(MODEL_CONFIG, {"config": {}})) == {"config": {}}


class TestNumbers:
    @pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64"])
    def test_signed(self, dtype: str) -> None:
        info = np.iinfo(dtype)
        values = np.array([0, 1, -1, info.min, info.max, 63, 64], dtype)
        packed = decode(CONTENTS, encode(CONTENTS, {"int64_contents": values.tolist()}))
        found = numbers(packed["int64_contents"], np.dtype(dtype), Kind.INT, 7)
        np.testing.assert_array_equal(found, values)
        assert found.dtype == dtype

    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "uint64"])
    def test_unsigned(self, dtype: str) -> None:
        values = np.array([0, 1, np.iinfo(dtype).max, 127, 128], dtype)
        packed = b"".join(varint(int(value)) for value in values)
        found = numbers(packed, np.dtype(dtype), Kind.UINT, 5)
        np.testing.assert_array_equal(found, values)
        assert found.dtype == dtype

    def test_truth(self) -> None:
        found = numbers(b"\x00\x01\x02\x80\x01\x80\x00", np.dtype("?"), Kind.BOOL, 5)
        assert found.tolist() == [False, True, True, True, False]
        found = numbers(b"\x00\x01\x02", np.dtype("?"), Kind.BOOL, 3)
        assert found.tolist() == [False, True, True]

    @pytest.mark.parametrize(("kind", "dtype"), [(Kind.FLOAT, "<f4"), (Kind.DOUBLE, "<f8")])
    def test_floats(self, kind: Kind, dtype: str) -> None:
        values = np.array([0, -1.5, np.inf], dtype)
        found = numbers(values.tobytes(), np.dtype(dtype), kind, 3)
        np.testing.assert_array_equal(found, values)
        with pytest.raises(DecodeError, match=r"3\.\d* values|2\.\d* values"):
            numbers(values.tobytes()[:-1], np.dtype(dtype), kind, 3)

    def test_many_in_blocks(self) -> None:
        rng = np.random.default_rng(5)
        values = rng.integers(0, 1 << 60, 50_000) >> rng.integers(0, 60, 50_000)
        packed = b"".join(varint(int(value)) for value in values)
        found = numbers(packed, np.dtype("int64"), Kind.INT, 50_000)
        np.testing.assert_array_equal(found, values)

    @pytest.mark.parametrize(
        ("packed", "dtype", "count", "words"),
        [
            (b"\x01\x80", "int64", 1, "does not end"),
            (b"\x01\x02", "int64", 3, "2 values; its shape has 3"),
            (b"", "int64", 1, "0 values"),
            (b"\x80" * 10 + b"\x01", "int64", 1, "longer than 64"),
            (b"\xff" * 9 + b"\x02", "uint64", 1, "longer than 64"),
            (b"\x80\x02", "uint8", 1, "out of the range 0 to 255"),
            (b"\x80\x01", "int8", 1, "out of the range"),
            (b"\x7f\x80\x80\x80\x80\x08", "int32", 2, "out of the range"),
        ],
    )
    def test_refused(self, packed: bytes, dtype: str, count: int, words: str) -> None:
        with pytest.raises(DecodeError, match=words):
            numbers(packed, np.dtype(dtype), Kind.INT, count)

    def test_few(self) -> None:
        assert few(b"\x05\x80\x01" + b"\xff" * 9 + b"\x01", 8) == [5, 128, -1]
        assert few(b"", 8) == []
        with pytest.raises(DecodeError, match="more than 2 values"):
            few(b"\x01\x01\x01", 2)
        with pytest.raises(DecodeError, match="does not end"):
            few(b"\x01\x81", 8)


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 1 << 31, (1 << 64) - 1])
def test_varint(value: int) -> None:
    schema = Schema({1: Field("n", Kind.UINT)})
    message = google(schema)(n=value).SerializeToString()
    assert (b"\x08" + varint(value) if value else b"") == message
    assert struct.pack("<Q", decode(schema, message).get("n", 0)) == struct.pack("<Q", value)
