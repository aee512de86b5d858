"""Rows along whichever axis."""

from __future__ import annotations

import numpy as np

from edged.rows import first_row, repeat_row, row_axes
from tests.fakes.manifests import make_manifest

H = ("float32", (2, "batch", 3))


def test_where_rows_are():
    kept = make_manifest([("x", "float32", ("batch", 3)), ("h", *H)], [("hN", *H)])
    assert row_axes(kept) == {"x": 0, "h": 1, "hN": 1}
    assert row_axes(make_manifest([("x", "float32", (2, 3))])) is None
    assert row_axes(make_manifest([("x", "float32", ("batch", "batch"))])) is None


def test_one_and_many():
    axes = {"x": 0, "h": 1}
    arrays = {"x": np.arange(6.0).reshape(2, 3), "h": np.arange(12.0).reshape(2, 2, 3)}
    one = first_row(arrays, axes)
    assert one["x"].tolist() == [[0, 1, 2]]
    assert one["h"].tolist() == [[[0, 1, 2]], [[6, 7, 8]]]
    many = repeat_row(one, axes, 3)
    assert many["x"].shape == (3, 3)
    assert many["h"].shape == (2, 3, 3)
    assert (many["h"][:, 2] == one["h"][:, 0]).all()
