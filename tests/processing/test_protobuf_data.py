import sys

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given
from hypothesis import strategies as st

from edged.errors import DecodeError, FieldError, InvalidRequestError, TooLargeError
from edged.processing.binary_document import MAX_BYTES, MAX_ITEMS
from edged.processing.codecs import build_codec
from edged.processing.protobuf_data import MAX_DESCRIPTOR_BYTES, protobuf_parser
from edged.specs import FieldSpec
from tests.fakes.manifests import make_manifest

Field = descriptor_pb2.FieldDescriptorProto


def field(name, number, kind, *, label=Field.LABEL_OPTIONAL, type_name="", optional=False):
    made = Field(name=name, number=number, type=kind, label=label, type_name=type_name or None)
    if optional:
        made.proto3_optional, made.oneof_index = True, 0
    return made


def descriptors():
    """What protoc writes of: message Reading { float temp = 1; optional double humidity = 2;
    repeated float xyz = 3; Kind kind = 4; map<string, int32> counts = 5; Reading inner = 6; ... }"""
    file = descriptor_pb2.FileDescriptorProto(
        name="reading.proto", package="plant", syntax="proto3"
    )
    kind = file.enum_type.add(name="Kind")
    kind.value.add(name="A", number=0)
    kind.value.add(name="B", number=1)
    message = file.message_type.add(name="Reading")
    entry = message.nested_type.add(name="CountsEntry")
    entry.options.map_entry = True
    entry.field.extend([field("key", 1, Field.TYPE_STRING), field("value", 2, Field.TYPE_INT32)])
    message.oneof_decl.add(name="_humidity")
    message.field.extend(
        [
            field("temp", 1, Field.TYPE_FLOAT),
            field("humidity", 2, Field.TYPE_DOUBLE, optional=True),
            field("xyz", 3, Field.TYPE_FLOAT, label=Field.LABEL_REPEATED),
            field("kind", 4, Field.TYPE_ENUM, type_name=".plant.Kind"),
            field("counts", 5, Field.TYPE_MESSAGE, label=Field.LABEL_REPEATED, type_name=".plant.Reading.CountsEntry"),
            field("inner", 6, Field.TYPE_MESSAGE, type_name=".plant.Reading"),
            field("note", 7, Field.TYPE_STRING),
            field("blob", 8, Field.TYPE_BYTES),
        ]
    )  # fmt: skip
    return descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString()


SET = descriptors()
PARSE = protobuf_parser(SET, "plant.Reading")
POOL = descriptor_pool.DescriptorPool()
POOL.Add(descriptor_pb2.FileDescriptorSet.FromString(SET).file[0])
Reading = message_factory.GetMessageClass(POOL.FindMessageTypeByName("plant.Reading"))


def test_a_message_is_a_document():
    message = Reading(
        temp=1.5, humidity=40, xyz=[1, 2], kind=1, counts={"a": 3}, note="ü", blob=b"x"
    )
    message.inner.temp = 2
    inner = {"temp": 2.0, "xyz": [], "kind": 0, "counts": {}, "note": "", "blob": b""}
    assert PARSE(message.SerializeToString()) == {
        "temp": 1.5, "humidity": 40.0, "xyz": [1.0, 2.0], "kind": 1, "counts": {"a": 3},
        "inner": inner, "note": "ü", "blob": b"x",
    }  # fmt: skip


def test_what_was_not_sent_is_absent_where_the_message_can_tell():
    assert PARSE(b"") == {"temp": 0.0, "xyz": [], "kind": 0, "counts": {}, "note": "", "blob": b""}


def test_rows_by_path():
    manifest = make_manifest([("x", "float32", ("batch", 4))])
    fields = ("temp", FieldSpec("humidity", 50), "xyz.1", "counts.a")
    codec = build_codec("protobuf", manifest, input_name=None, fields=fields, parse=PARSE)
    payload = Reading(temp=1, xyz=[5, 6], counts={"a": 3}).SerializeToString()
    assert codec.decode(payload)["x"].tolist() == [[1, 50, 6, 3]]
    with pytest.raises(DecodeError, match=r'row 0, field "xyz\.1": is missing'):
        codec.decode(Reading(temp=1).SerializeToString())


def nested(levels):
    data = b""
    for _ in range(levels):
        size = len(data)
        head = bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])
        data = b"\x32" + head + data
    return data


@pytest.mark.parametrize(
    ("payload", "error", "why"),
    [
        (b"\x0d\x00", DecodeError, "is no plant.Reading"),
        (b"\x3a\x01\xff", DecodeError, "is no plant.Reading"),
        (Reading(temp=float("nan")).SerializeToString(), DecodeError, "temp holds nan"),
        (Reading(xyz=[1, float("inf")]).SerializeToString(), DecodeError, "xyz holds inf"),
        (nested(40), DecodeError, "deeper"),
        (nested(200), DecodeError, "is no plant.Reading"),
        (bytes(MAX_BYTES + 1), TooLargeError, "the limit is"),
        (Reading(xyz=[1.0] * (MAX_ITEMS + 1)).SerializeToString(), TooLargeError, "more than"),
    ],
    ids=str.split("cut text nan inf deep deeper long many"),
)
def test_refused(payload, error, why):
    with pytest.raises(error, match=why):
        PARSE(payload)


@pytest.mark.parametrize(
    ("data", "name", "path"),
    [
        (b"\xff", "plant.Reading", "schema.descriptors"),
        (SET, "plant.Kind", "schema.message"),
        (SET, "Reading", "schema.message"),
        (b"", "plant.Reading", "schema.message"),
        (bytes(MAX_DESCRIPTOR_BYTES + 1), "plant.Reading", "schema.descriptors"),
    ],
)
def test_bad_descriptors(data, name, path):
    with pytest.raises(FieldError) as caught:
        protobuf_parser(data, name)
    assert caught.value.path == path


def test_an_import_that_is_missing():
    file = descriptor_pb2.FileDescriptorProto(name="a.proto", dependency=["b.proto"])
    data = descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString()
    with pytest.raises(FieldError, match="include_imports"):
        protobuf_parser(data, "a")


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "google.protobuf", None)
    with pytest.raises(FieldError, match=r"edged\[protobuf\]"):
        protobuf_parser(SET, "plant.Reading")


@given(st.binary(max_size=100))
def test_any_bytes_end_in_a_document_or_our_errors(data):
    try:
        PARSE(data)
    except InvalidRequestError:
        return
