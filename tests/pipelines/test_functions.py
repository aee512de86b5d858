"""Every function gives what NumPy gives, of the dtype that arrays have."""

from __future__ import annotations

import numpy as np
import pytest

from edged.pipelines.functions import FUNCTIONS, WORDS
from edged.tensors import DTYPES


def test_operators_cannot_be_written_as_words():
    assert {"+", "and", "not"} & set(WORDS) == set()
    assert {"max", "where", "float32"} <= set(WORDS)


@pytest.mark.parametrize("name", DTYPES)
def test_casts(name: str):
    assert FUNCTIONS[name].compute(np.array([0, 1], np.int64)).dtype == DTYPES[name].numpy


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sigmoid_and_softmax_do_not_overflow(dtype: str):
    x = np.array([-1e4, 0, 1e4], dtype)
    got = FUNCTIONS["sigmoid"].compute(x)
    assert got.dtype == x.dtype
    np.testing.assert_array_equal(got, [0, 0.5, 1])
    got = FUNCTIONS["softmax"].compute(x, axis=-1)
    assert got.dtype == x.dtype
    np.testing.assert_array_equal(got, [0, 0, 1])
