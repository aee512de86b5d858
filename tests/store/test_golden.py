"""Golden samples: what goes in comes out, and no malformed file gets through."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.errors import EdgedError, ManifestError
from edged.store.golden import read_safetensors, write_safetensors
from edged.strings import strings
from edged.tensors import DTYPES, to_bfloat16


def file_of(header: object, body: bytes = b"") -> bytes:
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(head).to_bytes(8, "little") + head + body


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_survives(dtype: str):
    tensors = {
        "in.x": np.arange(12).reshape(3, 4).astype(dtype),
        "out.scalar": np.array(1, dtype=dtype),
        "out.empty": np.zeros((0, 3), dtype=dtype),
        "out.strided": np.arange(10).astype(dtype)[::2],
    }
    back = read_safetensors(write_safetensors(tensors))
    assert set(back) == set(tensors)
    for name, array in tensors.items():
        assert back[name].dtype == DTYPES[dtype].numpy
        np.testing.assert_array_equal(back[name], array)


def test_bytes_do_not_depend_on_order_or_byte_order():
    one = {"b": np.ones(3, "<f4"), "a": np.ones(2, "u1"), "c": np.ones(1, "<f8")}
    two = {"c": np.ones(1, ">f8"), "a": np.ones(2, "u1"), "b": np.ones(3, ">f4")}
    assert write_safetensors(one) == write_safetensors(two)


def test_mixed_dtypes_are_aligned():
    tensors = {"a": np.ones(3, "u1"), "b": np.ones(3, "f8"), "c": np.ones(3, "f2")}
    assert all(
        array.flags.aligned for array in read_safetensors(write_safetensors(tensors)).values()
    )


def test_metadata_of_other_writers_is_ignored():
    data = file_of(
        {"__metadata__": {"a": "b"}, "x": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}},
        b"\x07",
    )
    assert read_safetensors(data)["x"].tolist() == [7]


def test_an_unknown_dtype_is_not_written():
    with pytest.raises(ManifestError, match="complex64"):
        write_safetensors({"x": np.zeros(1, "c8")})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "at least 8 bytes"),
        (b"\xff" * 8, "does not fit"),
        ((1 << 62).to_bytes(8, "little"), "does not fit"),
        (file_of(b"[]"), "header"),
        (file_of(b"{" * 1000), "header"),
        (file_of(b"[" * 200_000), "header"),
        (file_of(b'{"\xff":1}'), "header|safetensors"),
        (file_of({"x": 1}), '"x"'),
        (file_of({"x": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 0]}}), '"x"'),
        (
            file_of({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 8]}}, b"12345678"),
            "needs 4",
        ),
        (
            file_of({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, b"1234"),
            "do not give",
        ),
        (
            file_of({"x": {"dtype": "F32", "shape": [2**32, 2**32], "data_offsets": [0, 0]}}),
            "needs 73786976294838206464",
        ),
        (
            file_of({"x": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, b"12345678"),
            "start",
        ),
        (file_of({"x": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}, b"12"), "no tensor"),
        (file_of({"x": {"dtype": "F8", "shape": [1], "data_offsets": [0, 2]}}, b"12"), "F8"),
        (
            file_of({"x": {"dtype": "BOOL", "shape": [1], "data_offsets": [0, 1]}}, b"\x02"),
            "other bytes",
        ),
        (
            file_of(
                {
                    "x": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]},
                    "y": {"dtype": "U8", "shape": [2], "data_offsets": [1, 3]},
                },
                b"123",
            ),
            "start",
        ),
    ],
)
def test_malformed_is_refused(data: bytes, message: str):
    with pytest.raises(ManifestError, match=message):
        read_safetensors(data)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 60), st.integers(0, 255))
def test_noise_raises_our_errors_only(noise: bytes, position: int, value: int):
    good = bytearray(write_safetensors({"x": np.arange(4, dtype="f4")}))
    good[position % len(good)] = value
    for data in (noise, file_of(noise), bytes(good)):
        try:
            read_safetensors(data)
        except EdgedError:
            continue


def test_bfloat16_and_strings_survive():
    words = strings([b"", "ä".encode(), b"\xff\0", b"abc"], (2, 2))
    tensors = {
        "in.x": words,
        "in.empty": strings([], (0, 3)),
        "in.one": strings([b"scalar"], ()),
        "out.y": to_bfloat16(np.float32([[1.5, -2.25]])),
        "out.z": np.float64([3]),
    }
    data = write_safetensors(tensors)
    back = read_safetensors(data)
    for name, array in tensors.items():
        assert back[name].dtype == array.dtype
        assert back[name].shape == array.shape
        assert back[name].tolist() == array.tolist()
    assert write_safetensors(dict(reversed(tensors.items()))) == data
    assert write_safetensors({"x": np.array(["a", "bc"])}) == write_safetensors(
        {"x": strings([b"a", b"bc"], (2,))}
    )


@pytest.mark.parametrize(
    ("shape", "body", "words"),
    [
        ("2", b"\1\0\0\0a", "has 2"),
        ("1", b"\1\0\0\0ab", "take 5 of 6"),
        ("1", b"\2\0\0\0a", "2 bytes"),
        ("-1", b"\1\0\0\0a", "no list of bytes"),
        ("x", b"\1\0\0\0a", "no list of bytes"),
        ("999999999,999999999", b"\1\0\0\0a", "strings"),
    ],
)
def test_malformed_strings_are_refused(shape: str, body: bytes, words: str):
    head = {
        "__metadata__": {"string:x": shape},
        "x": {"dtype": "U8", "shape": [len(body)], "data_offsets": [0, len(body)]},
    }
    with pytest.raises(ManifestError, match=words):
        read_safetensors(file_of(head, body))


def test_shapes_of_no_strings_are_refused():
    one = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    with pytest.raises(ManifestError, match="of no tensor: y"):
        read_safetensors(file_of({"__metadata__": {"string:y": "1"}, "x": one}, bytes(4)))
    with pytest.raises(ManifestError, match="no list of bytes"):
        read_safetensors(file_of({"__metadata__": {"string:x": "1"}, "x": one}, bytes(4)))
