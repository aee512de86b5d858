"""Non-maximum suppression against the plainest implementation there is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.config.pipeline import BoxesConfig
from edged.errors import FieldError
from edged.pipelines.boxes import boxes_work
from edged.tensors import TensorSpec


def iou(a: np.ndarray, b: np.ndarray) -> float:
    wide = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    high = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    shared = wide * high
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union > 0 else 0.0


def plain(boxes: np.ndarray, scores: np.ndarray, config: BoxesConfig) -> list[int]:
    best, classes = scores.max(axis=1), scores.argmax(axis=1)
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: -best[i]):
        if best[i] >= config.threshold and all(
            classes[i] != classes[k] or iou(boxes[i], boxes[k]) <= config.overlap for k in kept
        ):
            kept.append(i)
    return kept[: config.top]


@given(st.integers(0, 40), st.integers(0, 10**6), st.sampled_from([1, 5, 100]))
@settings(max_examples=60, deadline=None)
def test_as_the_plain_way(count: int, seed: int, top: int):
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 30, (count, 2))
    boxes = np.concatenate([corner, corner + rng.integers(1, 20, (count, 2))], 1).astype(np.float32)
    scores = rng.permutation(count * 3).reshape(count, 3).astype(np.float32) / max(count * 3, 1)
    config = BoxesConfig(boxes="b", scores="s", top=top, threshold=0.3, overlap=0.4)
    got = boxes_work(config).run({"boxes": boxes, "scores": scores})
    kept = plain(boxes, scores, config) if count else []
    np.testing.assert_array_equal(got["boxes"], boxes[kept])
    np.testing.assert_array_equal(got["classes"], scores.argmax(axis=1)[kept] if count else [])


def test_centres_and_a_leading_axis():
    config = BoxesConfig(boxes="b", scores="s", form="centre")
    work = boxes_work(config)
    specs = work.outputs(
        {
            "boxes": TensorSpec("boxes", "float32", (1, "n", 4)),
            "scores": TensorSpec("scores", "float32", (1, "n", 2)),
        }
    )
    assert [str(spec) for spec in specs] == [
        "float32[*found,4]", "float32[*found]", "int64[*found]",
    ]  # fmt: skip
    boxes = np.array([[[5, 5, 4, 2], [5, 5, 4, 2]]], np.float32)
    scores = np.array([[[0.1, 0.9], [0.2, 0.8]]], np.float32)
    got = work.run({"boxes": boxes, "scores": scores})
    assert got["boxes"].tolist() == [[3, 4, 7, 6]]
    assert got["classes"].tolist() == [1]
    with pytest.raises(FieldError, match="expected float32, one or"):
        work.outputs(
            {
                "boxes": TensorSpec("boxes", "float32", ("n", 4)),
                "scores": TensorSpec("scores", "float32", ("m",)),
            }
        )


PLACE = np.array([0.5, 0.25, 10, 30, 300, 400, 200, 160], np.float32)


def test_boxes_in_the_picture_that_was_sent():
    config = BoxesConfig(boxes="b", scores="s", place="p")
    work = boxes_work(config)
    specs = {
        "boxes": TensorSpec("boxes", "float32", ("n", 4)),
        "scores": TensorSpec("scores", "float32", ("n",)),
        "place": TensorSpec("place", "float32", (8,)),
    }
    assert len(work.outputs(specs)) == 3
    boxes = np.array([[20, 40, 60, 80], [-5, 25, 400, 400]], np.float32)
    scores = np.array([0.9, 0.8], np.float32)
    got = work.run({"boxes": boxes, "scores": scores, "place": PLACE})
    assert got["boxes"].tolist() == [[20, 40, 100, 200], [0, 0, 300, 400]]
    none = work.run({"boxes": boxes, "scores": scores * 0, "place": PLACE})
    assert none["boxes"].shape == (0, 4)
    with pytest.raises(FieldError, match=r"STEP\.place of an image step"):
        work.outputs(specs | {"place": TensorSpec("place", "float32", (4,))})


def test_shares_of_the_sides_and_rows_first():
    config = BoxesConfig(boxes="b", scores="s", place="p", unit="shares", form="corners_yx")
    boxes = np.array([[0.25, 0.1, 0.5, 0.3]], np.float32)
    got = boxes_work(config).run({"boxes": boxes, "scores": np.ones(1, np.float32), "place": PLACE})
    np.testing.assert_allclose(got["boxes"], [[20, 40, 100, 200]], rtol=1e-5)


def test_cells_of_grids():
    """As YOLOX lays them out: row by row, the finest grid first."""
    config = BoxesConfig(boxes="b", scores="s", place="p", grid=(8, 16), threshold=0, overlap=1)
    place = np.array([1, 1, 0, 0, 1000, 1000, 32, 16], np.float32)  # 4 x 2 cells, then 2 x 1
    raw = np.random.default_rng(3).normal(size=(10, 4)).astype(np.float32)
    scores = np.linspace(1, 0.1, 10, dtype=np.float32)
    got = boxes_work(config).run({"boxes": raw, "scores": scores, "place": place})["boxes"]
    wanted = []
    for index, (x, y, wide, high) in enumerate(raw.tolist()):
        stride, column, row = (8, index % 4, index // 4) if index < 8 else (16, index - 8, 0)
        centre, half = (
            ((x + column) * stride, (y + row) * stride),
            np.exp([wide, high]) * stride / 2,
        )
        wanted.append([*(centre - half), *(centre + half)])
    np.testing.assert_allclose(got, np.maximum(wanted, 0), rtol=1e-5, atol=1e-4)
    with pytest.raises(ValueError, match=r"9 boxes; grids \[8, 16\] have 10"):
        boxes_work(config).run({"boxes": raw[:9], "scores": scores[:9], "place": place})


def test_all_classes_against_each_other():
    boxes = np.array([[0, 0, 9, 9], [0, 0, 9, 8]], np.float32)
    scores = np.array([[0.9, 0], [0, 0.8]], np.float32)
    for each, count in ((True, 2), (False, 1)):
        config = BoxesConfig(boxes="b", scores="s", each_class=each)
        got = boxes_work(config).run({"boxes": boxes, "scores": scores})
        assert len(got["boxes"]) == count


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"unit": "shares"}, "needs place"),
        ({"grid": (8,)}, "needs place"),
        ({"grid": (8,), "place": "p", "form": "centre"}, "says the form itself"),
        ({"grid": (8,), "place": "p", "unit": "shares"}, "says the form itself"),
    ],
)
def test_settings_that_do_not_go_together(fields: dict, words: str):
    with pytest.raises(FieldError, match=words):
        boxes_work(BoxesConfig(boxes="b", scores="s", **fields))
