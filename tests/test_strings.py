"""Tensors of strings: there and back, what they take, and what is no such tensor."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.errors import EdgedError, LocalProtocolError, TensorMismatchError, TooLargeError
from edged.strings import STRINGS_CAP, Strings, blank, decode_strings, encode_strings, strings
from edged.tensors import TensorSpec


@given(st.lists(st.binary(max_size=40), max_size=30))
def test_any_bytes_come_back(values: list[bytes]) -> None:
    made = strings(values, (len(values),))
    back, size = decode_strings(encode_strings(made) + b"more", (len(values),), "x")
    assert back.tolist() == values
    assert size == sum(map(len, values)) + 4 * len(values)


@given(st.binary(max_size=60), st.lists(st.integers(0, 5), max_size=3))
def test_any_bytes_are_read_or_refused(data: bytes, shape: list[int]) -> None:
    try:
        found, size = decode_strings(data, shape, "x")
    except EdgedError:
        return
    assert encode_strings(found) == data[:size]
    assert found.shape == tuple(shape)


def test_shapes() -> None:
    assert strings([b"a"], ()).shape == ()
    assert strings([], (0, 4)).shape == (0, 4)
    assert strings([b"a\0", b"", b"c", b"d"], (2, 2)).tolist() == [[b"a\0", b""], [b"c", b"d"]]


@pytest.mark.parametrize(
    "array", [np.array(["a", "äö"]), np.array(["a", "äö"], object), np.array([b"a", "äö".encode()])]
)
def test_text_is_written_as_utf8(array: np.ndarray) -> None:
    assert encode_strings(array) == b"\1\0\0\0a\4\0\0\0" + "äö".encode()


def test_the_order_is_that_of_the_rows() -> None:
    made = strings([b"a", b"b", b"c", b"d"], (2, 2))
    assert encode_strings(made.T) == encode_strings(strings([b"a", b"c", b"b", b"d"], (2, 2)))
    assert made.T.tobytes() == encode_strings(made.T)


def test_what_they_take_is_counted() -> None:
    assert strings([bytes(1000), b""], (2,)).nbytes > 1000 + 2 * 33
    assert strings([bytes(1000), b""], (2,))[1:].nbytes < 100
    both = np.concatenate([strings([b"a"], (1,)), strings([bytes(500)], (1,))])
    assert isinstance(both, Strings)
    assert both.nbytes > 500


@pytest.mark.parametrize("one", [None, 1, ["a"], "\ud800"])
def test_what_is_no_string(one: object) -> None:
    array = np.empty(2, object)
    array[0], array[1] = b"a", one
    with pytest.raises(LocalProtocolError, match="element 1 is "):
        encode_strings(array)


@pytest.mark.hostile("C5 a string whose length goes past the end")
@pytest.mark.parametrize("size", [2, 2**31, 2**32 - 1])
def test_a_length_beyond_the_end(size: int) -> None:
    with pytest.raises(TensorMismatchError, match="x: string 0 says that it has"):
        decode_strings(struct.pack("<I", size) + b"a", (1,), "x")


def test_more_than_one_request_may_bring() -> None:
    with pytest.raises(TooLargeError, match="send fewer rows"):
        decode_strings(b"", (STRINGS_CAP + 1,), "x")
    with pytest.raises(TooLargeError):
        decode_strings(b"", (2**40, 2**40), "x")
    with pytest.raises(TooLargeError):
        decode_strings(bytes(12), (3,), "x", 2)


def test_blank() -> None:
    assert blank(TensorSpec("x", "string", ("batch", 2)), (1, 2)).tolist() == [[b"", b""]]
    assert blank(TensorSpec("x", "bfloat16", ("batch",)), (2,)).tobytes() == bytes(4)
    assert blank(TensorSpec("x", "float32", ("batch",)), (2,)).tolist() == [0, 0]
