"""What both formats share, over both: rows mean what the same JSON would mean."""

import json

import pytest

from edged.errors import DecodeError, InvalidRequestError
from edged.processing.cbor_data import encode_cbor
from edged.processing.codecs import PARSERS, build_codec
from edged.processing.msgpack_data import encode_msgpack
from edged.specs import FeaturesInput, FieldSpec, TextInput, WordColumn
from tests.fakes.manifests import make_manifest

ENCODERS = {"cbor": encode_cbor, "msgpack": encode_msgpack}
TABLE = make_manifest([("x", "float32", ("batch", 2))])
NAMED = make_manifest(
    [("x", "float32", ("batch", 2))],
    input_processing={"x": FeaturesInput(("mass", "color"), {"color": WordColumn(("red",))})},
)
TWO = make_manifest([("x", "float32", ("batch", 2)), ("n", "int64", ("batch", 1))])
TEXT = make_manifest([("x", "uint8", ("batch", "characters"))], input_processing={"x": TextInput()})
FIELDS = ("a.0", FieldSpec("b", 5))


@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize(
    ("manifest", "fields", "document"),
    [
        (TABLE, (), [1, 2]),
        (TABLE, (), [[1, 2.5], [3, 4]]),
        (TABLE, FIELDS, {"a": [1], "b": None}),
        (TABLE, FIELDS, [{"a": [1]}, {"a": [2], "b": 3, "c": "x"}]),
        (NAMED, (), {"mass": 1, "color": "red"}),
        (TWO, (), {"inputs": {"x": [[1, 2]], "n": [[3]]}}),
        (TEXT, (), "so"),
        (TEXT, ("t",), [{"t": "so"}, {"t": "long"}]),
        # refused
        (TABLE, FIELDS, {"b": 1}),
        (TABLE, FIELDS, {"a": ["x"]}),
        (TABLE, FIELDS, {"a": [1e300]}),
        (TABLE, (), [[1, 2], [3]]),
        (TABLE, FIELDS, []),
        (TABLE, FIELDS, 7),
        (NAMED, (), {"mass": 1, "color": "blue"}),
        (TEXT, ("t",), {"t": 7}),
        (TWO, (), {"inputs": {"x": [[1, 2]]}}),
    ],
)
def test_rows_mean_what_the_same_json_means(kind, manifest, fields, document):
    def outcome(codec, payload):
        built = build_codec(codec, manifest, input_name=None, fields=fields)
        try:
            return {name: (a.dtype, a.tolist()) for name, a in built.decode(payload).items()}
        except InvalidRequestError as exc:
            return str(exc)

    expected = outcome("json", json.dumps(document).encode())
    assert outcome(kind, ENCODERS[kind](document)) == expected


@pytest.mark.parametrize("kind", ENCODERS)
def test_bytes_are_no_number(kind):
    codec = build_codec(kind, TABLE, input_name=None, fields=("a", "b"))
    with pytest.raises(DecodeError, match='row 0, field "a": expected a number'):
        codec.decode(ENCODERS[kind]({"a": b"1", "b": 2}))


def test_every_document_codec_is_here():
    assert set(PARSERS) == {"json", *ENCODERS}
