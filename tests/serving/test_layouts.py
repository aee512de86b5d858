"""Which layouts fit a signature, as rows; what becomes of calls: test_prepared.py."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from edged.errors import InvalidRequestError, TensorMismatchError
from edged.serving.layouts import check_layout, outputs_of, outputs_with, row_bytes, row_shape
from edged.tensors import TensorSpec

X, MASK = TensorSpec("x", "float32", ("batch", 4)), TensorSpec("mask", "bool", ("batch",))
SCALE = TensorSpec("scale", "float64", ())
Y, TOTAL = TensorSpec("y", "float32", ("batch", 2)), TensorSpec("total", "float64", ())
GATE = SimpleNamespace(
    inputs=(X, MASK, SCALE), outputs=(Y, TOTAL), owner='model "gate" release 3'
)  # fmt: skip


def of(spec: TensorSpec, *shape: int | str, dtype: str = "") -> TensorSpec:
    return TensorSpec(spec.name, dtype or spec.dtype, shape)


@pytest.mark.parametrize(
    ("specs", "rows"),
    [
        ((X, MASK, SCALE), None),
        ((SCALE, MASK, X), None),
        ((of(X, 5, 4), of(MASK, 5), SCALE), 5),
    ],
    ids=["free", "another order", "fixed"],
)
def test_a_layout_that_fits(specs: tuple[TensorSpec, ...], rows: int | None):
    assert check_layout(GATE, specs) == rows


@pytest.mark.parametrize(
    ("specs", "words"),
    [
        ((X, MASK), '"scale"'),
        ((X, MASK, SCALE, TensorSpec("more", "int8", (1,))), '"more"'),
        ((of(X, "batch", 5), MASK, SCALE), '"x"'),
        ((of(X, "batch", 4, dtype="float64"), MASK, SCALE), "float64"),
        ((of(X, 1, 4), MASK, SCALE), "free for one input and fixed for another"),
        ((of(X, 5, 4), of(MASK, 6), SCALE), '"mask"'),
        ((X, MASK, of(SCALE, "batch")), "its first axis holds no rows"),
    ],
    ids=["one less", "one more", "axis", "dtype", "free and fixed", "two fixed", "no rows"],
)
def test_a_layout_that_does_not(specs: tuple[TensorSpec, ...], words: str):
    with pytest.raises(TensorMismatchError, match=words):
        check_layout(GATE, specs)


def test_all_outputs_or_those_that_are_named_in_their_order():
    assert outputs_of(GATE, ()) == (Y, TOTAL)
    assert outputs_of(GATE, ("total", "y")) == (TOTAL, Y)
    with pytest.raises(InvalidRequestError, match='no output "z"; it has: total, y'):
        outputs_of(GATE, ("z",))


def test_outputs_have_the_rows_of_a_fixed_layout():
    assert outputs_with(GATE, (), (X, MASK, SCALE), None) == (Y, TOTAL)
    fixed = (of(X, 5, 4), of(MASK, 5), SCALE)
    assert outputs_with(GATE, (), fixed, 5) == (of(Y, 5, 2), TOTAL)


def test_the_room_of_one_row():
    assert (row_shape(X), row_bytes(X)) == ((1, 4), 16)
    assert (row_shape(SCALE), row_bytes(SCALE)) == ((), 8)
    assert (row_shape(of(X, 5, 4)), row_bytes(of(X, 5, 4))) == ((5, 4), 80)
