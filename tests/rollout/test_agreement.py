"""Two answers held against each other."""

from __future__ import annotations

import numpy as np
import pytest

from edged.rollout.agreement import agree
from edged.strings import strings
from edged.tensors import to_bfloat16

F = np.array([1.0, -2.0, 1000.0], np.float32)
NAN = np.array([np.nan, 1.0])

ROWS = {
    "the same": (F, F, 0.0, True),
    "within a part of it": (F * 1.0009, F, 1e-3, True),
    "within so much": (np.array([1e-4]), np.array([0.0]), 1e-3, True),
    "beyond": (F * 1.01, F, 1e-3, False),
    "one element beyond": (F + np.array([0, 0, 9], np.float32), F, 1e-3, False),
    "other shape": (F[:2], F, 1.0, False),
    "other dtype": (F.astype(np.float64), F, 1.0, False),
    "whole numbers are exact": (np.array([3]), np.array([4]), 1e3, False),
    "truths are exact": (np.array([True]), np.array([True]), 0.0, True),
    "NaN agrees with NaN": (NAN, NAN, 1e-3, True),
    "NaN for a number": (NAN, np.array([0.0, 1.0]), 1e3, False),
    "infinite for a number": (np.array([np.inf]), np.array([1.0]), 1.0, False),
    "a number for infinite": (np.array([1.0]), np.array([np.inf]), 1.0, False),
    "infinite agrees with infinite": (np.array([np.inf]), np.array([np.inf]), 1.0, True),
    "the other infinite": (np.array([-np.inf]), np.array([np.inf]), 1.0, False),
    "beyond what its dtype holds": (
        np.array([6e4], np.float16),
        np.array([-6e4], np.float16),
        1.0,
        False,
    ),
    "texts": (strings([b"a"], (1,)), strings([b"a"], (1,)), 0.0, True),
    "other texts": (strings([b"a"], (1,)), strings([b"b"], (1,)), 9.0, False),
    "bfloat16": (to_bfloat16(F), to_bfloat16(F), 0.0, True),
    "empty": (np.zeros((0, 3)), np.zeros((0, 3)), 0.0, True),
}


@pytest.mark.parametrize("name", ROWS)
def test_agree(name: str):
    got, wanted, tolerance, is_alike = ROWS[name]
    assert agree({"y": np.asarray(got, got.dtype)}, {"y": wanted}, tolerance) is is_alike


def test_only_what_was_asked_for_is_looked_at():
    assert agree({"y": F, "z": F}, {"y": F}, 0.0)
    assert not agree({"z": F}, {"y": F}, 0.0)
