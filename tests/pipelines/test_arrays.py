"""Cutting and joining: what comes out is what was foretold."""

from __future__ import annotations

import numpy as np
import pytest

from edged.config.pipeline import ConcatConfig, GatherConfig, SelectConfig
from edged.pipelines.arrays import (
    RESULT,
    compute_work,
    concat_work,
    first_work,
    gather_work,
    select_work,
)
from edged.tensors import TensorSpec

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
SPEC = TensorSpec("from", "float32", ("batch", 3, 4))


def fits(spec: TensorSpec, array: np.ndarray) -> bool:
    pairs = zip(spec.shape, array.shape, strict=True)
    return spec.dtype == array.dtype.name and all(isinstance(a, str) or a == b for a, b in pairs)


SELECTS = {
    "at": ({"at": 1}, X[..., 1]),
    "at the end": ({"at": -1, "axis": 1}, X[:, -1]),
    "start": ({"start": 1}, X[..., 1:]),
    "stop": ({"stop": 2, "axis": 1}, X[:, :2]),
    "rows": ({"axis": 0, "start": 1}, X[1:]),
    "reverse": ({"reverse": True, "axis": 0}, X[::-1]),
    "part reversed": ({"reverse": True, "start": 1, "stop": 3}, X[..., 2:0:-1]),
}


@pytest.mark.parametrize("name", SELECTS)
def test_select(name: str):
    fields, wanted = SELECTS[name]
    work = select_work(SelectConfig(from_="x", **fields))
    (spec,) = work.outputs({"from": SPEC})
    got = work.run({"from": X})[RESULT]
    np.testing.assert_array_equal(got, wanted)
    assert fits(spec, got)


def test_select_of_a_row_that_is_not_there():
    work = select_work(SelectConfig(from_="x", axis=0, at=2))
    with pytest.raises(ValueError, match="axis 0 has no entry 2"):
        work.run({"from": X})


def test_concat_and_compute_and_first():
    work = concat_work(ConcatConfig(from_=("a", "b"), axis=1))
    (spec,) = work.outputs({"0": SPEC, "1": SPEC})
    assert str(spec) == "float32[batch,6,4]"
    np.testing.assert_array_equal(
        work.run({"0": X, "1": X})[RESULT], np.concatenate([X, X], axis=1)
    )
    work = compute_work("x.y * 2 + x.y")
    assert work.reads == {"x.y": "x.y"}
    np.testing.assert_array_equal(work.run({"x.y": X})[RESULT], X * 3)
    work = first_work(["a", "b"])
    assert work.run({"1": X})[RESULT] is X


def test_gather_pads_what_is_shorter():
    work = gather_work(GatherConfig(from_="t", pad=-1))
    (spec,) = work.outputs({"from": TensorSpec("from", "int64", (1, "length", 2))})
    assert spec.shape == ("*items", "length", 2)
    items = [np.ones((1, 3, 2), np.int64), np.zeros((1, 1, 2), np.int64)]
    got = work.run({"from": items})[RESULT]
    assert got.shape == (2, 3, 2)
    assert got[1].tolist() == [[0, 0], [-1, -1], [-1, -1]]
    assert work.run({"from": items[:1]})[RESULT].shape == (1, 3, 2)
    assert work.run({"from": []})[RESULT].shape == (0, 0, 2)
