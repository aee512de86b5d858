"""One tensor of the protocol: read as what it says it is, or refused."""

from __future__ import annotations

import struct
import tracemalloc

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.errors import EdgedError, InvalidRequestError, TensorMismatchError, TooLargeError
from edged.protocol.oip_tensor import Room, check_size, dtype_named, read_bytes, read_json
from edged.strings import STRINGS_CAP, encode_strings, strings
from edged.tensors import ALL_DTYPES, BFLOAT16, DTYPES

STRING, BF16 = ALL_DTYPES["string"], ALL_DTYPES["bfloat16"]


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_numbers(dtype) -> None:
    array = np.arange(6).reshape(2, 3).astype(dtype.numpy) % 2
    array = array.astype(dtype.numpy)
    room = Room(100)
    assert dtype_named("x", dtype.oip) is dtype
    assert check_size("x", dtype, (2, 3), room) == array.nbytes
    found = read_bytes("x", dtype, (2, 3), array.tobytes(), room)
    assert found.tolist() == array.tolist()
    assert room.bytes_left == 100 - array.nbytes


def test_bfloat16() -> None:
    found = read_bytes("x", BF16, (2,), b"\xc0\x3f\x00\x40", Room(4))
    assert found.dtype == BFLOAT16
    assert found.tolist() == [(0x3FC0,), (0x4000,)]
    with pytest.raises(InvalidRequestError, match="BF16 has no form in JSON"):
        read_json("x", BF16, (1,), msgspec.Raw(b"[1]"), Room(4))


def test_strings_both_ways() -> None:
    wanted = strings([b"a", "ä".encode()], (1, 2))
    room = Room(1000)
    assert check_size("x", STRING, (1, 2), room) is None
    assert read_bytes("x", STRING, (1, 2), encode_strings(wanted), room).tolist() == wanted.tolist()
    assert read_json("x", STRING, (1, 2), msgspec.Raw('[["a","ä"]]'.encode()), room).tolist() == (
        wanted.tolist()
    )
    assert room.strings_left == STRINGS_CAP - 4
    assert room.bytes_left == 1000 - 2 * wanted.nbytes


def test_strings_with_something_behind() -> None:
    with pytest.raises(InvalidRequestError, match="1 bytes follow its last string"):
        read_bytes("x", STRING, (1,), struct.pack("<I", 1) + b"ab", Room(1000))
    with pytest.raises(TensorMismatchError, match='input "x"'):
        read_bytes("x", STRING, (2,), struct.pack("<I", 1) + b"a", Room(1000))


def test_strings_that_take_too_much() -> None:
    """Many short strings take far more memory than they have bytes."""
    with pytest.raises(TooLargeError, match="max_request"):
        read_bytes("x", STRING, (100,), bytes(400), Room(1000))
    with pytest.raises(TooLargeError, match="max_request"):
        read_json("x", STRING, (100,), msgspec.Raw(b"[" + b'"",' * 99 + b'""]'), Room(1000))
    with pytest.raises(TooLargeError, match="strings; one request"):
        check_size("x", STRING, (STRINGS_CAP + 1,), Room(1 << 30))


@given(
    st.sampled_from(list(ALL_DTYPES.values())), st.lists(st.integers(0, 4), max_size=3),
    st.binary(max_size=80),
)  # fmt: skip
def test_any_json_is_read_or_refused(dtype, shape: list[int], data: bytes) -> None:
    try:
        found = read_json("x", dtype, tuple(shape), msgspec.Raw(data), Room(1 << 16))
    except EdgedError:
        return
    assert found.shape == tuple(shape)
    assert found.dtype == dtype.numpy


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
                    lambda inner: st.lists(inner, max_size=4), max_leaves=8),
       st.sampled_from(list(ALL_DTYPES.values())), st.lists(st.integers(0, 3), max_size=3))  # fmt: skip
def test_any_document_is_read_or_refused(document, dtype, shape: list[int]) -> None:
    try:
        data = msgspec.json.encode(document)
    except UnicodeEncodeError:
        return
    try:
        found = read_json("x", dtype, tuple(shape), msgspec.Raw(data), Room(1 << 16))
    except EdgedError:
        return
    assert found.shape == tuple(shape)


@pytest.mark.hostile("B5 small JSON that grows beyond the cap when it becomes a tensor")
@pytest.mark.parametrize(("dtype", "value"), [("int8", b"1"), ("float32", b"1"), ("string", b'""')])
def test_more_than_the_shape_says_is_not_read(dtype: str, value: bytes) -> None:
    data = msgspec.Raw(b"[" + b",".join([value] * 100_000) + b"]")
    tracemalloc.start()
    with pytest.raises(InvalidRequestError, match="data has at least 100000 elements; its shape"):
        read_json("x", ALL_DTYPES[dtype], (2, 1), data, Room(1 << 20))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * memoryview(data).nbytes + 10_000


@pytest.mark.parametrize(
    ("text", "shape"), [(b"[[],[]]", (2, 0)), (b"[]", (0, 3)), (b"[[[1],[2]]]", (1, 2, 1))]
)
def test_lists_that_hold_little(text: bytes, shape: tuple[int, ...]) -> None:
    found = read_json("x", ALL_DTYPES["int8"], shape, msgspec.Raw(text), Room(99))
    assert found.shape == shape


def test_strings_that_look_like_more() -> None:
    text = b'["a, \\"b\\", [c]", "\\\\"]'
    found = read_json("x", ALL_DTYPES["string"], (2,), msgspec.Raw(text), Room(99))
    assert found.tolist() == [b'a, "b", [c]', b"\\"]
