import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edged.errors import DecodeError, FieldError, InvalidRequestError, TooLargeError
from edged.processing.codecs import RawCodec, build_codec
from edged.processing.values import MAX_ROWS
from edged.specs import FeaturesInput, FieldSpec, ImageInput, TextInput, WordColumn
from edged.tensors import TensorSpec
from tests.fakes.manifests import make_manifest

TABLE = make_manifest([("x", "float32", ("batch", 2))])
NAMED = make_manifest(
    [("x", "float32", ("batch", 2))], input_processing={"x": FeaturesInput(names=("a b", "c.d"))}
)
TWO = make_manifest([("x", "float32", ("batch", 2)), ("n", "int64", ("batch", 1))])
FREE = make_manifest([("x", "float32", ("batch", "time", "notes"))])
LONG = make_manifest([("x", "float32", ("batch", "time", 2))])
BYTES = make_manifest([("x", "uint8", ("length",))])
TEXT = make_manifest([("x", "uint8", ("batch", "characters"))], input_processing={"x": TextInput()})
PICTURE = make_manifest(
    [("image", "uint8", ("batch", 1, 8, 8))],
    input_processing={"image": ImageInput(width=8, height=8, mode="L")},
)


WORDED = make_manifest(
    [("x", "float32", ("batch", 2))],
    input_processing={"x": FeaturesInput(("mass", "color"), {"color": WordColumn(("red",))})},
)


def build(codec, manifest, input_name=None, fields=()):
    return build_codec(codec, manifest, input_name=input_name, fields=fields)


def test_the_bundles_column_names_are_the_default_fields():
    assert build("json", NAMED).decode(b'{"a b": 1, "c.d": 2}')["x"].tolist() == [[1, 2]]


def test_written_fields_win():
    assert build("json", NAMED, fields=("p", "q")).decode(b'{"p":1,"q":2}')["x"].tolist() == [
        [1, 2]
    ]


def test_the_bundles_words_go_with_its_columns_whatever_the_fields_are_called():
    assert build("json", WORDED).decode(b'{"mass": 1, "color": "red"}')["x"].tolist() == [[1, 0]]
    renamed = build("json", WORDED, fields=("m", "paint.name"))
    assert renamed.decode(b'{"m": 1, "paint": {"name": "red"}}')["x"].tolist() == [[1, 0]]
    with pytest.raises(DecodeError, match="does not know the word 'blue'"):
        renamed.decode(b'{"m": 1, "paint.name": "blue"}')


def test_without_columns_json_is_nested_lists():
    assert build("json", TABLE).decode(b"[1, 2]")["x"].tolist() == [[1, 2]]
    assert set(build("json", TWO).decode(b'{"inputs":{"x":[1,2],"n":[3]}}')) == {"x", "n"}


def test_image():
    assert build("image", PICTURE).is_slow
    assert not build("raw", PICTURE).is_slow


@pytest.mark.parametrize(
    ("codec", "manifest", "input_name", "fields", "path"),
    [
        ("json", TABLE, None, ("a",), "fields"),
        ("json", TABLE, "nope", ("a", "b"), "input"),
        ("json", TABLE, "nope", (), "input"),
        ("json", TWO, "x", ("a", "b"), "input"),
        ("json", TWO, None, ("a", "b"), "codec"),
        ("raw", TWO, None, (), "codec"),
        ("raw", FREE, None, (), "codec"),
        ("raw", TABLE, None, ("a", "b"), "fields"),
        ("image", TABLE, None, (), "codec"),
        ("carrier-pigeon", TABLE, None, (), "codec"),
    ],
)
def test_what_cannot_fit_is_refused_at_check_time(codec, manifest, input_name, fields, path):
    with pytest.raises(FieldError) as caught:
        build(codec, manifest, input_name, fields)
    assert caught.value.path == path


class TestRaw:
    spec = TensorSpec("x", "int16", ("batch", 2))

    def test_rows_are_views_of_the_payload(self):
        payload = np.array([[1, -2], [3, 4]], "<i2").tobytes()
        array = RawCodec(self.spec).decode(payload)["x"]
        assert array.tolist() == [[1, -2], [3, 4]]
        assert not array.flags.owndata

    @pytest.mark.parametrize("size", [0, 1, 3, 5, 9])
    def test_part_of_a_row(self, size):
        with pytest.raises(DecodeError, match="a multiple of 4"):
            RawCodec(self.spec).decode(bytes(size))

    def test_exactly_one_row_without_a_batch_axis(self):
        codec = RawCodec(TensorSpec("x", "int16", (1, 2)))
        assert codec.decode(bytes(4))["x"].shape == (1, 2)
        with pytest.raises(DecodeError, match="takes 4"):
            codec.decode(bytes(8))

    def test_booleans_are_0_or_1(self):
        codec = RawCodec(TensorSpec("x", "bool", ("batch", 2)))
        assert codec.decode(b"\0\1")["x"].tolist() == [[False, True]]
        with pytest.raises(DecodeError, match="boolean"):
            codec.decode(b"\0\2")

    @given(st.binary(max_size=64))
    def test_any_bytes(self, payload):
        try:
            array = RawCodec(self.spec).decode(payload)["x"]
        except InvalidRequestError:
            assert len(payload) % 4 or not payload
        else:
            assert array.tobytes() == payload


def test_raw_takes_as_many_rows_as_json():
    row = np.zeros(2, np.float32).tobytes()
    assert len(build("raw", TABLE).decode(row * MAX_ROWS)["x"]) == MAX_ROWS
    with pytest.raises(TooLargeError, match=str(MAX_ROWS)):
        build("raw", TABLE).decode(row * (MAX_ROWS + 1))


def test_raw_says_the_length_of_one_axis():
    data = np.arange(6, dtype="<f4")
    assert build("raw", LONG).decode(data.tobytes())["x"].tolist() == [[[0, 1], [2, 3], [4, 5]]]
    assert bytes(build("raw", BYTES).decode(b"%PDF")["x"]) == b"%PDF"
    assert build("raw", TEXT).decode("heiß".encode())["x"].shape == (1, 5)
    for codec, payload in (("raw", b"a" * 9), ("raw", b"")):
        with pytest.raises(DecodeError, match="takes a multiple of 8"):
            build(codec, LONG).decode(payload)


def test_texts():
    for payload in (b'"so"', b'["so"]', b'{"inputs": {"x": "so"}}'):
        assert build("json", TEXT).decode(payload)["x"].tolist() == [[115, 111]]
    by_path = build("json", TEXT, fields=("note.text",))
    assert by_path.decode(b'[{"note": {"text": "a"}}, {"note.text": "bc"}]')["x"].tolist() == [
        [97, 0],
        [98, 99],
    ]
    assert by_path.decode(b'{"note": {"text": ""}}')["x"].tolist() == [[0]]
    with pytest.raises(DecodeError, match=r'row 0, field "note\.text": expected text'):
        by_path.decode(b'{"note": 3}')


@pytest.mark.parametrize("fields", [("a", "b"), (FieldSpec("a", 3.0),)])
def test_a_text_stands_in_one_field(fields):
    with pytest.raises(FieldError, match="text"):
        build("json", TEXT, fields=fields)


def test_raw_of_a_file():
    """An input that has no rows and whose length is open takes whatever comes."""
    codec = build("raw", make_manifest([("file", "uint8", ("bytes",))]))
    assert codec.decode(b"\1\2\3")["file"].tolist() == [1, 2, 3]
    assert len(codec.decode(bytes(MAX_ROWS + 1))["file"]) == MAX_ROWS + 1
    with pytest.raises(DecodeError, match="0 bytes"):
        codec.decode(b"")
    pairs = build("raw", make_manifest([("x", "int16", ("n", 2))]))
    assert pairs.decode(bytes(8))["x"].shape == (2, 2)
    with pytest.raises(DecodeError, match="takes a multiple of 4"):
        pairs.decode(bytes(6))


def test_a_picture_of_any_size():
    codec = build("image", make_manifest([("photo", "uint8", ("height", "width", 3))]))
    assert codec.is_slow
    data = io.BytesIO()
    Image.new("RGB", (7, 5), (1, 2, 3)).save(data, "PNG")
    pixels = codec.decode(data.getvalue())["photo"]
    assert (pixels.shape, pixels[4, 6].tolist()) == ((5, 7, 3), [1, 2, 3])
    for shape in [("height", "width", 4), (8, 8, 3), ("batch", 3)]:
        with pytest.raises(FieldError, match="does not say how a picture becomes"):
            build("image", make_manifest([("photo", "uint8", shape)]))
