"""Does an array fit a signature? Nothing is ever converted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.errors import TensorMismatchError
from edged.strings import strings
from edged.tensors import (
    BFLOAT16,
    DTYPES,
    TensorSpec,
    aligned,
    check_tensors,
    describe,
    dtype_of,
    from_bfloat16,
    size_bytes,
    to_bfloat16,
)

X = TensorSpec("x", "float32", ("batch", 4))
SEQ = (
    TensorSpec("ids", "int64", ("batch", "time")),
    TensorSpec("mask", "bool", ("batch", "time")),
)
FIXED = TensorSpec("x", "uint8", (1, 2))
SCALAR = TensorSpec("x", "float64", ())
F4 = np.float32


def ids(rows: int, time: int) -> np.ndarray:
    return np.zeros((rows, time), np.int64)


def mask(rows: int, time: int) -> np.ndarray:
    return np.zeros((rows, time), bool)


FITS = {
    "one row": ([X], {"x": np.zeros((1, 4), F4)}, 1),
    "many rows": ([X], {"x": np.zeros((9, 4), F4)}, 9),
    "another layout of memory": ([X], {"x": np.zeros((4, 9), F4).T}, 9),
    "free axes that agree": (SEQ, {"mask": mask(2, 5), "ids": ids(2, 5)}, 2),
    "no batch axis": ([FIXED], {"x": np.zeros((1, 2), np.uint8)}, None),
    "scalar": ([SCALAR], {"x": np.zeros(())}, None),
    "a fixed axis of zero": (
        [TensorSpec("x", "int8", ("batch", 0))],
        {"x": np.zeros((2, 0), np.int8)},
        2,
    ),
}
NOT = {
    "dtype": ([X], {"x": np.zeros((1, 4))}, 'gate wants float32[batch,4] for "x"; got float64'),
    "integer for float": ([X], {"x": np.zeros((1, 4), int)}, "got int64[1,4]"),
    "big-endian": ([X], {"x": np.zeros((1, 4), ">f4")}, "got float32[1,4]"),
    "rank": ([X], {"x": np.zeros(4, F4)}, "got float32[4]"),
    "more ranks": ([X], {"x": np.zeros((1, 4, 1), F4)}, "got float32[1,4,1]"),
    "axis": ([X], {"x": np.zeros((1, 5), F4)}, "got float32[1,5]"),
    "no rows": ([X], {"x": np.zeros((0, 4), F4)}, "(an empty axis holds no rows)"),
    "batches differ": (SEQ, {"ids": ids(2, 5), "mask": mask(3, 5)}, 'for "mask"; got bool[3,5]'),
    "times differ": (SEQ, {"ids": ids(2, 5), "mask": mask(2, 4)}, 'for "mask"; got bool[2,4]'),
    "free axis of zero": (SEQ, {"ids": ids(2, 0), "mask": mask(2, 0)}, "empty axis"),
    "scalar for rows": ([X], {"x": F4(1)}, "got float32[]"),
    "missing": (SEQ, {"ids": ids(1, 1)}, 'missing input "mask"; it takes "ids" int64[batch,time]'),
    "nothing": (SEQ, {}, 'missing input "ids", "mask"'),
    "unknown": ([X], {"x": np.zeros((1, 4), F4), "y": F4(0)}, 'unknown input "y"'),
    "renamed": ([X], {"X": np.zeros((1, 4), F4)}, 'missing input "x"; unknown input "X"'),
}


@pytest.mark.parametrize("name", FITS)
def test_fits(name: str):
    specs, tensors, rows = FITS[name]
    assert check_tensors(specs, tensors, "gate") == rows


@pytest.mark.parametrize("name", NOT)
def test_does_not_fit(name: str):
    specs, tensors, message = NOT[name]
    with pytest.raises(TensorMismatchError) as caught:
        check_tensors(specs, tensors, "gate")
    assert message in caught.value.message
    assert caught.value.message.startswith("gate")


def test_message_stays_short_whatever_names_come():
    tensors = {f"{n}" * 200: F4(0) for n in range(50)}
    with pytest.raises(TensorMismatchError) as caught:
        check_tensors([X], tensors, "gate")
    assert len(caught.value.message) < 1000


@given(
    st.lists(st.sampled_from(["batch", "time", 1, 2, 3]), max_size=3),
    st.lists(st.integers(0, 3), max_size=3),
)
def test_fits_exactly_when_every_axis_does(wanted: list, shape: list[int]):
    spec = TensorSpec("x", "int8", tuple(wanted))
    names: dict[str, int] = {}
    fits = len(wanted) == len(shape) and all(
        (got >= 1 and names.setdefault(axis, got) == got) if isinstance(axis, str) else axis == got
        for axis, got in zip(wanted, shape, strict=False)
    )
    tensors = {"x": np.zeros(shape, np.int8)}
    if fits:
        assert check_tensors([spec], tensors, "gate") == names.get("batch")
    else:
        with pytest.raises(TensorMismatchError):
            check_tensors([spec], tensors, "gate")


def test_size_does_not_wrap():
    """SECURITY A: shape [2^32, 2^32] is not 0 elements, as NumPy's own product says."""
    assert size_bytes("float32", [2**32, 2**32]) == 2**66
    assert size_bytes("float16", []) == 2
    assert size_bytes("int8", [3, 0, 2]) == 0


@pytest.mark.parametrize("name", DTYPES)
def test_dtypes(name: str):
    entry = DTYPES[name]
    assert entry.name == name == entry.numpy.name
    assert entry.numpy.itemsize == entry.size_bytes
    assert entry.numpy == np.dtype(name), "little-endian is the native order of every device"


def test_oip_names_are_distinct():
    assert len({entry.oip for entry in DTYPES.values()}) == len(DTYPES) == 12


def test_words():
    assert str(X) == "float32[batch,4]"
    assert describe(np.zeros((2, 3), np.uint8)) == "uint8[2,3]"
    assert (X.is_batched, FIXED.is_batched, SCALAR.is_batched) == (True, False, False)
    assert not TensorSpec("x", "int8", ("time", "batch")).is_batched


class TestBfloat16:
    def test_numbers_that_it_holds_come_back(self) -> None:
        numbers = np.float32([0, -0.0, 1.5, -2.25, np.inf, -np.inf, 2**-126, 3.3895314e38])
        made = to_bfloat16(numbers)
        assert made.dtype == BFLOAT16
        np.testing.assert_array_equal(from_bfloat16(made), numbers)

    @pytest.mark.parametrize(
        ("given", "wanted"),
        [
            (1 + 2**-8, 1),
            (1 + 3 * 2**-8, 1 + 2**-6),
            (1 + 2**-8 + 2**-16, 1 + 2**-7),
            (3.4e38, np.inf),
        ],
    )
    def test_others_are_rounded(self, given: float, wanted: float) -> None:
        assert from_bfloat16(to_bfloat16(np.float32([[given]])))[0, 0] == np.float32(wanted)

    @pytest.mark.parametrize("bits", [0x7FC00000, 0x7F800001, 0xFFFFFFFF])
    def test_nan_stays_one(self, bits: int) -> None:
        nan = np.array([bits], "<u4").view("<f4")
        assert np.isnan(from_bfloat16(to_bfloat16(nan))[0])

    def test_agrees_with_the_package(self) -> None:
        ml_dtypes = pytest.importorskip("ml_dtypes")
        numbers = np.random.default_rng(1).normal(size=999).astype(np.float32)
        theirs = numbers.astype(ml_dtypes.bfloat16)
        np.testing.assert_array_equal(to_bfloat16(numbers).view("<u2"), theirs.view("<u2"))
        found = dtype_of(theirs)
        assert found is not None
        assert found.name == "bfloat16"

    def test_is_not_taken_for_uint16(self) -> None:
        spec = TensorSpec("x", "bfloat16", ("batch",))
        assert check_tensors([spec], {"x": to_bfloat16(np.float32([1, 2]))}, "m") == 2
        with pytest.raises(TensorMismatchError, match=r"got uint16\[2\]"):
            check_tensors([spec], {"x": np.uint16([1, 2])}, "m")


def test_strings_fit_strings_only() -> None:
    spec = TensorSpec("x", "string", ("batch", 1))
    assert check_tensors([spec], {"x": strings([b"a", b"b"], (2, 1))}, "m") == 2
    with pytest.raises(TensorMismatchError, match=r"got string\[2\]"):
        check_tensors([spec], {"x": strings([b"a", b"b"], (2,))}, "m")
    with pytest.raises(TensorMismatchError, match="got float32"):
        check_tensors([spec], {"x": np.zeros((2, 1), F4)}, "m")
    assert describe(np.array([None])) == "object[1]"


@pytest.mark.parametrize("offset", range(9))
def test_aligned_copies_what_lies_at_an_odd_address_and_nothing_else(offset: int) -> None:
    room = np.zeros(64, np.uint8)
    start = -room.ctypes.data % 8 + offset
    array = room[start : start + 16].view(np.float32).reshape(2, 2)
    found = aligned(array)
    assert found.flags.aligned
    assert np.array_equal(found, array)
    assert np.shares_memory(found, array) == (offset % 4 == 0)
