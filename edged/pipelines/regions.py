"""Boxes out of a map of probabilities, as text detectors give it: one for each area in it.

Each area becomes the smallest rectangle around it, in any direction, and is enlarged: such
detectors are trained to mark the inner part of a line only.
Source: Differentiable Binarization (Liao et al. 2019), section 3; ``grow`` is its unclip ratio.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edged.config.pipeline import RegionsConfig
from edged.errors import FieldError
from edged.pipelines.step import Values, Work
from edged.tensors import Array, TensorSpec

_MOST_RUNS = 200_000
"""A page of text has some thousands; noise of a broken model would take minutes."""


def regions_work(config: RegionsConfig) -> Work:
    """Find the areas of a map."""

    def outputs(inputs: Mapping[str, TensorSpec]) -> Sequence[TensorSpec]:
        values, picture = inputs["from"], inputs["picture"]
        if values.dtype != "float32" or len(values.shape) < 2 or set(values.shape[:-2]) - {1}:
            raise FieldError("regions.from", f"is {values}; expected float32[height,width]")
        if len(picture.shape) != 3:
            raise FieldError("regions.picture", f"is {picture}; expected uint8[height,width,3]")
        return [
            TensorSpec("boxes", "float32", ("*found", 4, 2)),
            TensorSpec("scores", "float32", ("*found",)),
        ]

    def run(values: Values) -> Values:
        field = values["from"]
        field = field.reshape(field.shape[-2:])
        boxes, scores = find(field, config, values["picture"].shape[:2])
        order = reading_order(boxes, config.line)
        return {
            "boxes": np.array(boxes, np.float32).reshape(-1, 4, 2)[order],
            "scores": np.array(scores, np.float32)[order],
        }

    return Work({"from": config.from_, "picture": config.picture}, outputs, run, is_slow=True)


def find(
    field: Array, config: RegionsConfig, size: tuple[int, ...]
) -> tuple[list[Array], list[float]]:
    """Boxes in pixels of a picture, and the mean probability within each.

    Args:
        field: float[height,width].
        config: thresholds.
        size: height and width of the picture.
    """
    high, wide = field.shape
    scale = np.array([size[1] / wide, size[0] / high])
    limit = np.array([size[1] - 1, size[0] - 1])
    boxes: list[Array] = []
    scores: list[float] = []
    for points in areas(_widened(field > config.threshold))[: config.top]:
        corners, short = smallest_rectangle(hull(points))
        if short < config.min_side:
            continue
        score = mean_within(field, corners)
        if score < config.score:
            continue
        inner = np.trunc(corners)
        corners, short = smallest_rectangle(hull(inner), _growth(inner, config.grow))
        if short < config.min_side + 2:
            continue
        placed = np.round(corners * scale)
        placed = clockwise(np.trunc(np.clip(placed, 0, limit)))
        sides = np.linalg.norm(placed[0] - placed[[1, 3]], axis=1)
        if (sides.astype(int) > config.min_side).all():
            boxes.append(placed)
            scores.append(score)
    return boxes, scores


def _widened(mask: Array) -> Array:
    """By one pixel to the right and down, so that what nearly touches is one area."""
    wider: Array = mask.copy()
    wider[:, 1:] |= mask[:, :-1]
    wider[1:] |= wider[:-1].copy()
    return wider


def areas(mask: Array) -> list[Array]:
    """Connected areas, corners included: for each the ends of its rows, float64[n,2] as x, y.

    Raises:
        ValueError: so many that it is noise.
    """
    edges = np.diff(np.pad(mask.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    rows, starts = np.nonzero(edges == 1)
    stops = np.nonzero(edges == -1)[1] - 1
    if len(rows) > _MOST_RUNS:
        raise ValueError("the map is noise, not areas")
    parent = list(range(len(rows)))

    def root(run: int) -> int:
        while parent[run] != run:
            parent[run] = parent[parent[run]]
            run = parent[run]
        return run

    bounds = np.searchsorted(rows, np.arange(mask.shape[0] + 1)).tolist()
    first, last = starts.tolist(), stops.tolist()
    for row in range(1, mask.shape[0]):
        above, end = bounds[row - 1], bounds[row]
        for run in range(bounds[row], bounds[row + 1]):
            while above < end and last[above] + 1 < first[run]:
                above += 1
            other = above
            while other < end and first[other] <= last[run] + 1:
                parent[root(other)] = root(run)
                other += 1
    groups: dict[int, list[int]] = {}
    for run in range(len(rows)):
        groups.setdefault(root(run), []).append(run)
    found = []
    for members in groups.values():
        chosen = np.array(members)
        left = np.stack([starts[chosen], rows[chosen]], axis=1)
        right = np.stack([stops[chosen], rows[chosen]], axis=1)
        found.append(np.concatenate([left, right]).astype(np.float64))
    return found


def hull(points: Array) -> Array:
    """The convex hull: float64[n,2], in order around it."""
    ordered = sorted(set(map(tuple, points.tolist())))
    if len(ordered) < 3:
        return np.array(ordered)

    def half(sequence: Sequence[tuple[float, ...]]) -> list[tuple[float, ...]]:
        made: list[tuple[float, ...]] = []
        for point in sequence:
            while len(made) > 1 and _turn(made[-2], made[-1], point) <= 0:
                made.pop()
            made.append(point)
        return made[:-1]

    return np.array(half(ordered) + half(ordered[::-1]))


def _turn(a: Sequence[float], b: Sequence[float], c: Sequence[float]) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def smallest_rectangle(points: Array, growth: float = 0.0) -> tuple[Array, float]:
    """The rectangle of the smallest area around a hull: four corners, and its shorter side.

    Args:
        points: of the hull, in order.
        growth: how far beyond the hull it reaches on each side.
    """
    sides = np.roll(points, -1, axis=0) - points if len(points) > 1 else np.array([[1.0, 0.0]])
    lengths = np.linalg.norm(sides, axis=1, keepdims=True)
    along = sides / np.where(lengths > 0, lengths, 1)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    u, v = points @ along.T, points @ across.T
    low_u, high_u = u.min(axis=0) - growth, u.max(axis=0) + growth
    low_v, high_v = v.min(axis=0) - growth, v.max(axis=0) + growth
    best = int(np.argmin((high_u - low_u) * (high_v - low_v)))
    ends = [
        (low_u, low_v), (high_u, low_v), (high_u, high_v), (low_u, high_v),
    ]  # fmt: skip
    corners = [along[best] * a[best] + across[best] * b[best] for a, b in ends]
    short = min(high_u[best] - low_u[best], high_v[best] - low_v[best])
    return np.array(corners), float(short)


def _growth(corners: Array, ratio: float) -> float:
    """By how much a quadrangle is enlarged: area * ratio / length of its edge."""
    nexts = np.roll(corners, -1, axis=0)
    area = abs(np.sum(corners[:, 0] * nexts[:, 1] - nexts[:, 0] * corners[:, 1])) / 2
    length = np.linalg.norm(nexts - corners, axis=1).sum()
    return float(area * ratio / length) if length else 0.0


def mean_within(field: Array, corners: Array) -> float:
    """The mean of a map within four corners, the edge included."""
    high, wide = field.shape
    low = np.clip(np.floor(corners.min(axis=0)), 0, (wide - 1, high - 1)).astype(int)
    top = np.clip(np.ceil(corners.max(axis=0)), 0, (wide - 1, high - 1)).astype(int)
    part = field[low[1] : top[1] + 1, low[0] : top[0] + 1]
    quad = np.trunc(corners - low)
    y, x = np.mgrid[: part.shape[0], : part.shape[1]]
    turns = []
    for a, b in zip(quad, np.roll(quad, -1, axis=0), strict=True):
        turns.append((b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0]))
    inside = np.all([turn >= 0 for turn in turns], axis=0) | np.all(
        [turn <= 0 for turn in turns], axis=0
    )
    return float(part[inside].mean()) if inside.any() else 0.0


def clockwise(corners: Array) -> Array:
    """Four corners, from the top left one on."""
    by_x = corners[np.argsort(corners[:, 0], kind="stable")]
    left, right = by_x[:2], by_x[2:]
    left, right = left[np.argsort(left[:, 1])], right[np.argsort(right[:, 1])]
    return np.array([left[0], right[0], right[1], left[1]])


def reading_order(boxes: Sequence[Array], line: float) -> list[int]:
    """From top to bottom; what lies within ``line`` pixels of height, from left to right."""
    order = sorted(range(len(boxes)), key=lambda index: (boxes[index][0][1], boxes[index][0][0]))
    for start in range(len(order) - 1):
        for place in range(start, -1, -1):
            a, b = boxes[order[place]][0], boxes[order[place + 1]][0]
            if abs(b[1] - a[1]) >= line or b[0] >= a[0]:
                break
            order[place], order[place + 1] = order[place + 1], order[place]
    return order
