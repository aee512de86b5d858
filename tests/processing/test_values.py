import math

import numpy as np
import pytest

from edged.errors import DecodeError
from edged.processing.values import array_from_values
from edged.tensors import DTYPES


def name_of(index):
    return f"value {index}"


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint8", "int64"])
def test_numbers_and_booleans_become_the_dtype(dtype):
    array = array_from_values([1, 2.0, True], DTYPES[dtype], name_of)
    assert array.dtype == DTYPES[dtype].numpy
    assert array.tolist() == [1, 2, 1]


@pytest.mark.parametrize(
    ("values", "dtype", "message"),
    [
        ([1, "2"], "float32", "value 1: expected a number, true or false; got text"),
        ([1, None], "float32", "value 1: .* got null"),
        ([[1]], "float32", "value 0: .* got a list"),
        ([0, 1e39], "float32", "value 1: the number is too large for float32"),
        ([70000], "float16", "too large for float16"),
        ([math.inf], "float64", "too large for float64"),
        ([10**400], "float64", "too large for float64"),
        ([1.5], "int32", "value 0: expected a whole number"),
        ([math.inf], "int32", "value 0: expected a whole number"),
        ([0, 256], "uint8", "value 1: uint8 holds 0 to 255"),
        ([-1], "uint64", "holds 0 to"),
        ([2], "bool", "bool holds 0 to 1"),
    ],
)
def test_what_does_not_fit_is_named(values, dtype, message):
    with pytest.raises(DecodeError, match=message):
        array_from_values(values, DTYPES[dtype], name_of)


def test_largest_whole_numbers_stay_exact():
    assert array_from_values([2**63 - 1], DTYPES["int64"], name_of)[0] == np.int64(2**63 - 1)
