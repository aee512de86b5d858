"""Answered requests as one question, and which of them have another answer then."""

from __future__ import annotations

import numpy as np
import pytest

from edged.rollout.together import Copy, differing, together


def copy(rows: int, value: float = 1.0, **more: np.ndarray) -> Copy:
    x = np.full((rows, 3), value, np.float32)
    return Copy({"x": x, **more}, {"y": x[:, :1] * 2}, 6)


def test_rows_behind_one_another():
    whole = together([copy(1, 1), copy(2, 2), copy(1, 3)], 4)
    assert whole is not None
    assert whole.inputs["x"][:, 0].tolist() == [1, 2, 2, 3]
    assert whole.wanted["y"][:, 0].tolist() == [2, 4, 4, 6]


def test_one_is_itself():
    one = copy(7)
    assert together([one], 1) is one


ONE = copy(1)
APART = {
    "too many rows": [copy(2), copy(3)],
    "no rows": [copy(1), copy(0)],
    "other inputs": [ONE, copy(1, z=np.ones((1, 1)))],
    "inputs that the first has not": [copy(1, z=np.ones((1, 1))), ONE],
    "other shapes": [copy(1, z=np.ones((1, 2))), copy(1, z=np.ones((1, 3)))],
    "other dtypes": [copy(1, z=np.ones((1, 2))), copy(1, z=np.ones((1, 2), np.float32))],
    "a tensor without rows": [copy(1, z=np.float32(1)), copy(1, z=np.float32(1))],
    "as many rows for other tensors": [copy(1, z=np.ones((2, 2))), copy(1, z=np.ones((2, 2)))],
    "other outputs": [ONE, ONE._replace(wanted={"y": ONE.wanted["y"], "z": ONE.wanted["y"]})],
    "outputs of other rows": [ONE, ONE._replace(wanted={"y": np.ones((2, 1), np.float32)})],
}


@pytest.mark.parametrize("copies", APART.values(), ids=APART.keys())
def test_not_together(copies: list[Copy]):
    assert together(copies, 4) is None


def test_how_many_differ():
    parts = [copy(1, 1), copy(2, 2), copy(1, 3)]
    got = {"y": np.array([[2], [4], [4], [6]], np.float32)}
    assert differing(got, parts, 1e-3) == 0
    got["y"][2] = 5
    assert differing(got, parts, 1e-3) == 1
    got["y"][0] = 5
    assert differing(got, parts, 1e-3) == 2
    assert differing({}, parts, 1e-3) == 3
    assert differing({"y": got["y"][:2]}, parts, 1e-3) == 3, "rows are missing"
