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
