"""Areas of a map against the plainest way to find them, and rectangles around them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.config.pipeline import RegionsConfig
from edged.errors import FieldError
from edged.pipelines import regions
from edged.pipelines.regions import (
    areas,
    clockwise,
    hull,
    mean_within,
    reading_order,
    regions_work,
    smallest_rectangle,
)
from edged.tensors import TensorSpec

CONFIG = RegionsConfig(from_="m", picture="p")


def flood(mask: np.ndarray) -> set[frozenset[tuple[int, int]]]:
    """Areas as sets of (x, y), one pixel after the other."""
    left = {(int(x), int(y)) for y, x in zip(*np.nonzero(mask), strict=True)}
    found = set()
    while left:
        area, todo = set(), [left.pop()]
        while todo:
            x, y = todo.pop()
            area.add((x, y))
            for near in [(x + a, y + b) for a in (-1, 0, 1) for b in (-1, 0, 1)]:
                if near in left:
                    left.remove(near)
                    todo.append(near)
        found.add(frozenset(area))
    return found


@given(st.integers(0, 10**6), st.integers(1, 14), st.integers(1, 14), st.floats(0.1, 0.8))
@settings(max_examples=80, deadline=None)
def test_areas_are_those_of_a_flood(seed: int, high: int, wide: int, share: float):
    mask = np.random.default_rng(seed).random((high, wide)) < share
    wanted = flood(mask)
    got = areas(mask)
    assert len(got) == len(wanted)
    for points in got:
        (area,) = [one for one in wanted if tuple(points[0].astype(int)) in one]
        assert {tuple(point) for point in points.astype(int).tolist()} <= area
        assert points.min(axis=0).tolist() == np.min(list(area), axis=0).tolist()
        assert points.max(axis=0).tolist() == np.max(list(area), axis=0).tolist()


def test_noise_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(regions, "_MOST_RUNS", 10)
    with pytest.raises(ValueError, match="noise"):
        areas(np.eye(11, dtype=bool))


@given(st.floats(0, 3.1), st.floats(5, 50), st.floats(5, 50))
@settings(max_examples=60, deadline=None)
def test_the_smallest_rectangle_of_a_turned_one_is_itself(angle: float, wide: float, high: float):
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    corners = np.array([[0, 0], [wide, 0], [wide, high], [0, high]]) @ turn
    got, short = smallest_rectangle(hull(corners))
    assert short == pytest.approx(min(wide, high), abs=1e-6)
    for corner in corners:
        assert np.linalg.norm(got - corner, axis=1).min() < 1e-6
    grown, short = smallest_rectangle(hull(corners), 2.0)
    assert short == pytest.approx(min(wide, high) + 4, abs=1e-6)
    assert np.linalg.norm(grown.mean(axis=0) - corners.mean(axis=0)) < 1e-6


@pytest.mark.parametrize("points", [[[3, 4]], [[3, 4], [9, 4]], [[0, 0], [1, 1], [2, 2]]])
def test_points_and_lines_have_no_width(points: list):
    assert smallest_rectangle(hull(np.array(points, float)))[1] == pytest.approx(0)


def test_boxes_in_the_pixels_of_the_picture_and_in_reading_order():
    field = np.zeros((1, 1, 60, 100), np.float32)
    field[..., 40:48, 10:90] = 0.9
    field[..., 10:18, 60:90] = 0.8
    field[..., 12:20, 10:40] = 0.7
    field[..., 30:32, 10:12] = 0.9  # too small
    field[..., 52:58, 10:90] = 0.4  # too faint
    work = regions_work(CONFIG)
    got = work.run({"from": field, "picture": np.zeros((120, 300, 3), np.uint8)})
    # The widening by one pixel to the right and down takes part in the mean.
    np.testing.assert_allclose(got["scores"], [0.7, 0.8, 0.9], atol=0.12)
    assert got["boxes"].dtype == np.float32
    top = got["boxes"][2]
    np.testing.assert_allclose(top[0], [10 * 3 - 6 * 3, 40 * 2 - 6 * 2], atol=3)
    np.testing.assert_allclose(top[2], [90 * 3 + 6 * 3, 48 * 2 + 6 * 2], atol=3)


def test_nothing_stands_out():
    got = regions_work(CONFIG).run(
        {"from": np.zeros((8, 8), np.float32), "picture": np.zeros((8, 8, 3), np.uint8)}
    )
    assert got["boxes"].shape == (0, 4, 2)
    assert got["scores"].shape == (0,)


def test_types():
    work = regions_work(CONFIG)
    picture = TensorSpec("picture", "uint8", ("h", "w", 3))
    specs = work.outputs(
        {"from": TensorSpec("from", "float32", (1, 1, "a", "b")), "picture": picture}
    )
    assert [str(spec) for spec in specs] == ["float32[*found,4,2]", "float32[*found]"]
    for shape in [("n", "a", "b"), (2, 3, 4), (4,)]:
        with pytest.raises(FieldError, match="expected float32"):
            work.outputs({"from": TensorSpec("from", "float32", shape), "picture": picture})


def test_small_ones():
    assert clockwise(np.array([[9, 9], [0, 0], [9, 1], [1, 8]])).tolist() == [
        [0, 0], [9, 1], [9, 9], [1, 8],
    ]  # fmt: skip
    field = np.arange(16, dtype=np.float32).reshape(4, 4)
    assert mean_within(field, np.array([[1, 1], [2, 1], [2, 2], [1, 2]], float)) == 7.5
    boxes = [np.array([[x, y]]) for x, y in [(5, 20), (50, 3), (1, 8), (90, 1)]]
    assert reading_order(boxes, 10) == [2, 1, 3, 0]
