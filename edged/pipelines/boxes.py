"""Boxes out of a detector's candidates: the best ones, without those that overlap a better one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edged.config.pipeline import BoxesConfig
from edged.errors import FieldError
from edged.pipelines.step import Values, Work
from edged.tensors import Array, TensorSpec

_MOST_CANDIDATES = 4096
"""Each kept box is held against all that are left; beyond so many a detector only makes noise."""


def boxes_work(config: BoxesConfig) -> Work:
    """Threshold and non-maximum suppression, each class by itself."""

    def outputs(inputs: Mapping[str, TensorSpec]) -> Sequence[TensorSpec]:
        boxes, scores = inputs["boxes"], inputs["scores"]
        if boxes.dtype != "float32" or _inner(boxes)[1:] != (4,):
            raise FieldError("boxes.boxes", f"is {boxes}; expected float32[n,4] or [1,n,4]")
        rest = _inner(scores)
        if scores.dtype != "float32" or len(rest) not in (1, 2) or rest[0] != _inner(boxes)[0]:
            raise FieldError(
                "boxes.scores", f"is {scores}; expected float32, one or [classes] for each box"
            )
        return [
            TensorSpec("boxes", "float32", ("*found", 4)),
            TensorSpec("scores", "float32", ("*found",)),
            TensorSpec("classes", "int64", ("*found",)),
        ]

    def run(values: Values) -> Values:
        boxes, scores = _flat(values["boxes"], 2), values["scores"]
        scores = scores.reshape(len(boxes), scores.size // len(boxes) if len(boxes) else 1)
        if config.form == "centre":
            half = boxes[:, 2:] / 2
            boxes = np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)
        classes = scores.argmax(axis=1)
        best = scores[np.arange(len(boxes)), classes]
        kept = suppress(boxes, best, classes, config)
        return {"boxes": boxes[kept], "scores": best[kept], "classes": classes[kept]}

    return Work({"boxes": config.boxes, "scores": config.scores}, outputs, run, is_slow=True)


def _inner(spec: TensorSpec) -> tuple[int | str, ...]:
    """The shape without a leading axis of one row."""
    return spec.shape[1:] if len(spec.shape) > 1 and spec.shape[0] == 1 else spec.shape


def _flat(array: Array, rank: int) -> Array:
    return array.reshape(array.shape[-rank:]) if array.ndim > rank else array


def suppress(boxes: Array, scores: Array, classes: Array, config: BoxesConfig) -> Array:
    """Which boxes to keep, best first.

    Args:
        boxes: float32[n,4], corners.
        scores: float32[n].
        classes: int64[n]; only boxes of one class are held against each other.
        config: threshold, overlap and how many.

    Returns:
        int64[kept], indexes.
    """
    good = np.flatnonzero(scores >= config.threshold)
    order = good[np.argsort(-scores[good], kind="stable")][:_MOST_CANDIDATES]
    areas = _areas(boxes[:, :2], boxes[:, 2:])
    kept: list[int] = []
    while len(order) and len(kept) < config.top:
        best, rest = order[0], order[1:]
        kept.append(int(best))
        low = np.maximum(boxes[rest, :2], boxes[best, :2])
        high = np.minimum(boxes[rest, 2:], boxes[best, 2:])
        shared = _areas(low, high)
        union = areas[rest] + areas[best] - shared
        with np.errstate(divide="ignore", invalid="ignore"):
            overlap = np.where(union > 0, shared / union, 0)
        order = rest[(overlap <= config.overlap) | (classes[rest] != classes[best])]
    return np.asarray(kept, np.int64)


def _areas(low: Array, high: Array) -> Array:
    sizes = np.maximum(high - low, 0)
    areas: Array = sizes[:, 0] * sizes[:, 1]
    return areas
