"""Boxes out of a detector's candidates: the best ones, without those that overlap a better one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edged.config.pipeline import BoxesConfig
from edged.errors import FieldError
from edged.pipelines.picture import PLACE
from edged.pipelines.step import Values, Work
from edged.tensors import Array, TensorSpec

_MOST_CANDIDATES = 4096
"""Each kept box is held against all that are left; beyond so many a detector only makes noise."""


def boxes_work(config: BoxesConfig) -> Work:
    """Threshold and non-maximum suppression, and the boxes in the picture that was sent.

    Raises:
        FieldError: settings that need the image's place, without it.
    """
    if config.place is None and (config.grid or config.unit == "shares"):
        field = "grid" if config.grid else "unit"
        raise FieldError(f"boxes.{field}", "needs place: STEP.place of the image that was seen")
    if config.grid and (config.unit == "shares" or config.form != "corners"):
        raise FieldError("boxes.grid", "says the form itself; leave form and unit out")

    def outputs(inputs: Mapping[str, TensorSpec]) -> Sequence[TensorSpec]:
        boxes, scores = inputs["boxes"], inputs["scores"]
        if boxes.dtype != "float32" or _inner(boxes)[1:] != (4,):
            raise FieldError("boxes.boxes", f"is {boxes}; expected float32[n,4] or [1,n,4]")
        rest = _inner(scores)
        if scores.dtype != "float32" or len(rest) not in (1, 2) or rest[0] != _inner(boxes)[0]:
            raise FieldError(
                "boxes.scores", f"is {scores}; expected float32, one or [classes] for each box"
            )
        place = inputs.get("place")
        if place is not None and (place.dtype, place.shape) != ("float32", (len(PLACE),)):
            raise FieldError("boxes.place", f"is {place}; expected STEP.place of an image step")
        return [
            TensorSpec("boxes", "float32", ("*found", 4)),
            TensorSpec("scores", "float32", ("*found",)),
            TensorSpec("classes", "int64", ("*found",)),
        ]

    def run(values: Values) -> Values:
        boxes, scores, place = _flat(values["boxes"], 2), values["scores"], values.get("place")
        scores = scores.reshape(len(boxes), scores.size // len(boxes) if len(boxes) else 1)
        boxes = corners(boxes, config, place)
        classes = scores.argmax(axis=1)
        best = scores[np.arange(len(boxes)), classes]
        kept = suppress(boxes, best, classes, config)
        found = boxes[kept] if place is None else in_picture(boxes[kept], place)
        return {"boxes": found, "scores": best[kept], "classes": classes[kept]}

    reads = {"boxes": config.boxes, "scores": config.scores}
    if config.place is not None:
        reads["place"] = config.place
    return Work(reads, outputs, run, is_slow=True)


def corners(boxes: Array, config: BoxesConfig, place: Array | None) -> Array:
    """Boxes as a detector gives them to x0 y0 x1 y1 in the pixels that it saw.

    Args:
        boxes: float32[n,4].
        config: how they are given.
        place: of the image, for grids and shares.

    Raises:
        ValueError: there are not as many boxes as the grids have cells.
    """
    form: str = config.form
    if config.grid and place is not None:
        cells, strides = grid_cells(int(place[6]), int(place[7]), config.grid)
        if len(cells) != len(boxes):
            raise ValueError(f"{len(boxes)} boxes; grids {list(config.grid)} have {len(cells)}")
        with np.errstate(over="ignore"):
            boxes = np.concatenate([boxes[:, :2] + cells, np.exp(boxes[:, 2:])], axis=1) * strides
        form = "centre"
    if form == "corners_yx":
        boxes = boxes[:, [1, 0, 3, 2]]
    elif form == "centre":
        half = boxes[:, 2:] / 2
        boxes = np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)
    if config.unit == "shares" and place is not None:
        boxes = boxes * np.tile(place[6:8], 2)
    return boxes


def grid_cells(width: int, height: int, grid: Sequence[int]) -> tuple[Array, Array]:
    """Column and row of each cell, float32[n,2], and how wide it is in pixels, float32[n,1]."""
    places, strides = [], []
    for stride in grid:
        rows, columns = np.mgrid[: height // stride, : width // stride]
        places.append(np.stack([columns.ravel(), rows.ravel()], axis=1))
        strides.append(np.full((rows.size, 1), stride))
    return np.concatenate(places).astype(np.float32), np.concatenate(strides).astype(np.float32)


def in_picture(boxes: Array, place: Array) -> Array:
    """From the pixels that a model saw to those of the picture, cut off at its edges.

    Args:
        boxes: float32[n,4], corners.
        place: float32[8], as ``picture.PLACE``.
    """
    scale, offset, size = (np.tile(place[at : at + 2], 2) for at in (0, 2, 4))
    placed: Array = np.clip((boxes - offset) / scale, 0, size)
    return placed


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
        classes: int64[n].
        config: threshold, overlap, how many, and whether classes are looked at by themselves.

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
        stays = overlap <= config.overlap
        if config.each_class:
            stays |= classes[rest] != classes[best]
        order = rest[stays]
    return np.asarray(kept, np.int64)


def _areas(low: Array, high: Array) -> Array:
    sizes = np.maximum(high - low, 0)
    areas: Array = sizes[:, 0] * sizes[:, 1]
    return areas
