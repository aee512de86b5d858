"""Whether numbers are those that were promised."""

from __future__ import annotations

import numpy as np
import pytest

from edged.comparing import compare
from edged.errors import GoldenMismatchError
from edged.manifest import Tolerance

ONE = {"y": np.ones((2, 2), np.float32)}


def test_the_same_within_the_tolerance():
    compare(ONE, {"y": ONE["y"] + np.float32(1e-6)}, {}, "model")
    compare(ONE, {"y": ONE["y"] + np.float32(0.1)}, {"y": Tolerance(rtol=0.2)}, "model")


@pytest.mark.parametrize(
    ("got", "wanted", "words"),
    [
        ({}, ONE, "got nothing"),
        ({"y": ONE["y"][:1]}, ONE, r"got \[1, 2\]"),
        ({"y": ONE["y"] * 2}, ONE, "4 of 4 elements are off, the worst by 1"),
        ({"y": ONE["y"] * np.nan}, ONE, "gives NaN or infinity"),
        (ONE, {"y": ONE["y"] * np.nan}, "promise NaN or infinity"),
        ({"y": np.array([1, 2])}, {"y": np.array([1, 3])}, "differs in 1 of 2"),
    ],
)
def test_what_is_not(got, wanted, words):
    with pytest.raises(GoldenMismatchError, match=words):
        compare(got, wanted, {}, "model")
