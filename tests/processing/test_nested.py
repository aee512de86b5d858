import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.errors import DecodeError, InvalidRequestError, TooLargeError
from edged.processing.nested import NestedCodec
from edged.processing.values import MAX_ROWS
from edged.tensors import TensorSpec

X = TensorSpec("x", "float32", ("batch", 2))
Y = TensorSpec("y", "int64", ("batch", "time", 2))


@pytest.mark.parametrize(
    "payload", [b"[[1,2]]", b"[1,2]", b'{"inputs":{"x":[1,2]}}', b'{"inputs":{"x":[[1,2]]}}']
)
def test_one_row_in_four_spellings(payload):
    assert NestedCodec([X]).decode(payload)["x"].tolist() == [[1, 2]]


def test_several_rows_and_inputs():
    tensors = NestedCodec([X, Y]).decode(
        b'{"inputs": {"x": [[1,2],[3,4]], "y": [[[1,2]],[[3,4]]]}}'
    )
    assert tensors["x"].shape == (2, 2)
    assert tensors["y"].tolist() == [[[1, 2]], [[3, 4]]]


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"[[1,2],[3]]", "ragged"),
        (b"[[1,2],3]", "ragged"),
        (b"[[[1,2]]]", r"expected float32\[batch,2\]; got \[1, 1, 2\]"),
        (b"[1,2,3]", "expected"),
        (b"[]", "empty list"),
        (b"[[]]", "empty list"),
        (b'[1,"a"]', 'input "x", value 1: expected a number'),
        (b"3", "inputs"),
        (b'{"x":[1,2]}', "inputs"),
        (b'{"inputs":{}}', '"x" is missing'),
        (b'{"inputs":{"x":[1,2],"z":1}}', "no input 'z'"),
        (b'{"inputs":{"z":1}}', '"x" is missing'),
    ],
)
def test_refusals(payload, message):
    with pytest.raises(DecodeError, match=message):
        NestedCodec([X]).decode(payload)


def test_a_plain_list_needs_a_single_input():
    with pytest.raises(DecodeError, match='"x", "y"'):
        NestedCodec([X, Y]).decode(b"[1,2]")


def test_a_scalar_input():
    spec = TensorSpec("s", "float32", ())
    assert NestedCodec([spec]).decode(b'{"inputs":{"s":3}}')["s"].shape == ()


LISTS = st.recursive(
    st.integers(-5, 5) | st.floats() | st.none(), lambda inner: st.lists(inner, max_size=3)
)


@given(LISTS)
def test_any_nesting_decodes_or_is_refused(value):
    try:
        tensors = NestedCodec([Y]).decode(json.dumps({"inputs": {"y": value}}).encode())
    except InvalidRequestError:
        return
    assert tensors["y"].ndim == 3


def test_too_many_rows_belong_in_several_messages():
    rows = [[1, 2]] * MAX_ROWS
    assert len(NestedCodec([X]).decode(json.dumps(rows).encode())["x"]) == MAX_ROWS
    with pytest.raises(TooLargeError, match=str(MAX_ROWS)):
        NestedCodec([X]).decode(json.dumps([*rows, [1, 2]]).encode())
