import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.errors import DecodeError, FieldError, InvalidRequestError, TooLargeError
from edged.processing.columns import ColumnsCodec
from edged.processing.values import MAX_ROWS
from edged.specs import FieldSpec, WordColumn
from edged.tensors import TensorSpec

X = TensorSpec("x", "float32", ("batch", 3))


def codec(*fields, spec=X):
    return ColumnsCodec([(spec, fields)])


def test_one_object_is_one_row():
    tensors = codec("a", "b", "c").decode(b'{"c": 3, "a": 1, "more": "ignored", "b": true}')
    assert tensors["x"].tolist() == [[1, 1, 3]]
    assert tensors["x"].dtype == np.float32


def test_a_list_of_objects_is_as_many_rows():
    payload = b'[{"a":1,"b":2,"c":3},{"a":4,"b":5,"c":6}]'
    assert codec("a", "b", "c").decode(payload)["x"].tolist() == [[1, 2, 3], [4, 5, 6]]


def test_dotted_paths_reach_into_objects_and_lists():
    document = {"imu": {"acc": [{"v": 1}, {"v": 2}]}, "a.b": 3, "a": {"b": 9}}
    fields = ("imu.acc.0.v", "imu.acc.1.v", "a.b")
    assert codec(*fields).decode(json.dumps(document).encode())["x"].tolist() == [[1, 2, 3]]


def test_defaults_stand_in_for_absent_and_null():
    fields = (FieldSpec("a", 7.0), FieldSpec("b.0", 8.0), "c")
    assert codec(*fields).decode(b'{"a": null, "c": 1}')["x"].tolist() == [[7, 8, 1]]


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b'{"a":1,"b":2}', 'row 0, field "c": is missing'),
        (b'[{"a":1,"b":2,"c":3},{"a":1,"b":null,"c":3}]', 'row 1, field "b": is missing'),
        (b'{"a":1,"b":"2","c":3}', 'row 0, field "b": expected a number'),
        (b'{"a":1,"b":1e999,"c":3}', 'row 0, field "b": the number is too large'),
        (b"[]", "at least one row"),
        (b"[1]", "row 0: expected an object"),
        (b"7", "the payload: expected an object"),
    ],
)
def test_errors_name_row_and_field(payload, message):
    with pytest.raises(DecodeError, match=message):
        codec("a", "b", "c").decode(payload)


@pytest.mark.parametrize("path", ["a.2", "a.-1", "a.x", "a.0.0", "a.99999999999999", "a.\u0661"])
def test_paths_that_lead_nowhere_are_missing(path):
    with pytest.raises(DecodeError, match="is missing"):
        codec(path, "b", "b").decode(b'{"a":[1,2],"b":1}')


def test_too_many_rows():
    with pytest.raises(TooLargeError, match=str(MAX_ROWS)):
        codec("a", "a", "a").decode(json.dumps([{"a": 1}] * (MAX_ROWS + 1)).encode())


def test_other_shapes():
    assert codec("a", spec=TensorSpec("x", "int64", ("batch",))).decode(b'[{"a":1},{"a":2}]')[
        "x"
    ].shape == (2,)
    single = codec("a", "b", spec=TensorSpec("x", "int64", (2,)))
    assert single.decode(b'{"a":1,"b":2}')["x"].shape == (2,)
    with pytest.raises(DecodeError, match="exactly 1"):
        single.decode(b'[{"a":1,"b":2},{"a":1,"b":2}]')
    fixed = codec("a", "b", spec=TensorSpec("x", "int64", (1, 2)))
    assert fixed.decode(b'{"a":1,"b":2}')["x"].shape == (1, 2)
    with pytest.raises(DecodeError, match="exactly 1"):
        fixed.decode(b'[{"a":1,"b":2},{"a":1,"b":2}]')


def test_several_inputs_are_filled_from_one_object():
    other = TensorSpec("y", "int64", ("batch", 1))
    tensors = ColumnsCodec([(X, ("a", "b", "c")), (other, ("n",))]).decode(
        b'{"a":1,"b":2,"c":3,"n":4}'
    )
    assert tensors["x"].tolist() == [[1, 2, 3]]
    assert tensors["y"].tolist() == [[4]]


@pytest.mark.parametrize(
    ("spec", "fields", "path"),
    [
        (X, ("a",), "fields"),
        (TensorSpec("x", "float32", ("batch", 2, 2)), ("a",), "fields"),
        (TensorSpec("x", "float32", ()), ("a",), "fields"),
        (TensorSpec("x", "int8", ("batch", 1)), (FieldSpec("a", 1.5),), "fields[0].default"),
        (TensorSpec("x", "int8", ("batch", 1)), (FieldSpec("a", 300.0),), "fields[0].default"),
        (X, ("a", "b", FieldSpec("c", float("nan"))), "fields[2].default"),
    ],
)
def test_what_cannot_fit_is_refused_at_check_time(spec, fields, path):
    with pytest.raises(FieldError) as caught:
        codec(*fields, spec=spec)
    assert caught.value.path == path


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "c", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_document_decodes_or_is_refused(document):
    try:
        tensors = codec("a", "b.0", "c.x").decode(json.dumps(document).encode())
    except InvalidRequestError:
        return
    assert tensors["x"].shape[1] == 3
    assert np.isfinite(tensors["x"]).all()


WORDS = {
    "x": {
        1: WordColumn(("blue", "red"), unknown=True, missing=2),
        2: WordColumn(("L", "S")),
    }
}


def test_words_become_the_numbers_that_the_bundle_gives_them():
    worded = ColumnsCodec([(X, ("mass", "color", "size"))], WORDS)
    rows = [
        {"mass": 1.5, "color": "red", "size": "L"},
        {"mass": 2, "color": "mauve", "size": "S"},
        {"mass": 3, "color": None, "size": "S"},
        {"mass": 4, "size": "L"},
    ]
    tensor = worded.decode(json.dumps(rows).encode())["x"]
    assert tensor.tolist() == [[1.5, 1, 0], [2, -1, 1], [3, 2, 1], [4, 2, 0]]
    assert tensor.dtype == np.float32


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"mass": 1, "color": "red", "size": "M"}, 'field "size": the model does not know'),
        ({"mass": 1, "color": "red"}, 'field "size": is missing'),
        ({"mass": 1, "color": 1, "size": "L"}, 'field "color": expected a word'),
        ({"mass": "1", "color": "red", "size": "L"}, 'field "mass": expected a number'),
    ],
)
def test_a_wrong_word_names_row_and_field(row, message):
    with pytest.raises(DecodeError, match=f"row 0, {message}"):
        ColumnsCodec([(X, ("mass", "color", "size"))], WORDS).decode(json.dumps(row).encode())


def test_a_column_of_words_has_no_number_for_its_default():
    with pytest.raises(FieldError, match="holds words") as caught:
        ColumnsCodec([(X, ("mass", FieldSpec("color", 1.0), "size"))], WORDS)
    assert caught.value.path == "fields[1].default"
