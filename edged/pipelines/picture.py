"""Pictures in pixels to a model's input, and parts of pictures. NumPy alone; Pillow is not needed.

Interpolation is OpenCV's, which detectors and recognisers were trained with: pixels are areas, so
that the centre of the first lies at 0.5; nothing is filtered when a picture shrinks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from edged.config.pipeline import CropConfig, ImageConfig
from edged.errors import FieldError
from edged.pipelines.step import Values, Work
from edged.tensors import Array, Axis, TensorSpec

_CHANNELS = 3
_MOST_SIDE = 16384
"""Of any picture: one of a pixel by millions would be stretched to gigabytes on its way."""
_MOST_PIXELS = 1 << 25
"""Of what is made straight for one request: corners come from a peer or a model, and a few numbers
could ask for any amount."""
_BAND_PIXELS = 1 << 18
"""Made straight in one go: each pixel takes some 200 bytes meanwhile."""
_CUBIC = -0.75
"""The free parameter of cubic interpolation; OpenCV's choice."""


def image_work(config: ImageConfig) -> Work:
    """Resize, normalise, lay out.

    Raises:
        FieldError: settings that do not go together.
    """
    table = _table(config)
    both = ("width", "height")
    needed = {"stretch": both, "letterbox": both, "corner": both, "fit": ("height",)}
    for field in needed.get(config.resize, ()):
        if getattr(config, field) is None:
            raise FieldError("image", f"{config.resize} needs {field}: PIXELS")

    def outputs(inputs: Mapping[str, TensorSpec]) -> Sequence[TensorSpec]:
        spec = inputs["from"]
        if spec.dtype != "uint8" or len(spec.shape) != 3 or spec.shape[2] != _CHANNELS:
            raise FieldError("image.from", f"is {spec}; expected uint8[height,width,3]")
        high: Axis = config.height or "*height"
        wide: Axis = config.width or "*width"
        if config.resize == "none":
            high, wide = spec.shape[:2]
        elif config.resize == "multiple":
            high, wide = "*height", "*width"
        axes = (_CHANNELS, high, wide) if config.layout == "NCHW" else (high, wide, _CHANNELS)
        return [TensorSpec("image", "float32", (1, *axes)), TensorSpec("place", "float32", (8,))]

    if config.group and (config.resize != "fit" or config.width is not None):
        raise FieldError("image.group", "is for resize: fit without width")

    def run(values: Values, width: int = 0) -> Values:
        pixels = values["from"]
        _check_sides(pixels)
        if config.swap:
            pixels = pixels[:, :, ::-1]
        frame = frame_of(pixels.shape, config, width)
        made = _resized(pixels, table, config.pad, frame)
        if config.layout == "NCHW":
            made = made.transpose(2, 0, 1)
        image = np.ascontiguousarray(made[np.newaxis])
        return {"image": image, "place": frame.place(pixels.shape)}

    def run_items(items: Sequence[Values]) -> list[Values]:
        pictures = [values["from"] for values in items]
        widths = group_widths([one.shape[:2] for one in pictures], config)
        return [run(values, width) for values, width in zip(items, widths, strict=True)]

    return Work(
        {"from": config.from_}, outputs, run, is_slow=True, main="image",
        run_items=run_items if config.group else None,
    )  # fmt: skip


class Frame(NamedTuple):
    """Where a picture lies in what a model sees, in pixels.

    Args:
        size: height and width of what the model sees.
        inner: height and width of the picture in it.
        top: rows above it.
        left: columns before it.
    """

    size: tuple[int, int]
    inner: tuple[int, int]
    top: int = 0
    left: int = 0

    def place(self, shape: Sequence[int]) -> Array:
        """What leads back from the model's pixels to the picture's; ``PLACE`` says in which order.

        Args:
            shape: of the picture; height and width come first.
        """
        high, wide = shape[:2]
        scale = self.inner[1] / wide, self.inner[0] / high
        return np.array(
            [*scale, self.left, self.top, wide, high, self.size[1], self.size[0]], np.float32
        )


PLACE = (
    "scale_x", "scale_y", "left", "top", "width", "height", "model_width", "model_height",
)  # fmt: skip
"""The numbers of an image's ``place``: x in the picture is (x of the model - left) / scale_x."""


def group_widths(shapes: Sequence[tuple[int, ...]], config: ImageConfig) -> list[int]:
    """The width of each item: that of the widest of those that it shares a run with.

    Args:
        shapes: height and width of each.
        config: with ``height`` and ``group``.
    """
    height = config.height or 1
    order = sorted(range(len(shapes)), key=lambda index: shapes[index][1] / shapes[index][0])
    widths = [0] * len(shapes)
    for start in range(0, len(order), max(config.group, 1)):
        members = order[start : start + max(config.group, 1)]
        high, wide = shapes[members[-1]]
        for index in members:
            widths[index] = max(config.min_width, int(height * (wide / high)))
    return widths


def _table(config: ImageConfig) -> Array:
    """float32[3,256]: for each channel what a pixel becomes."""
    sides = []
    for name, values, usual in (("mean", config.mean, 0.0), ("std", config.std, 1.0)):
        if len(values) not in (0, 1, _CHANNELS):
            raise FieldError(f"image.{name}", f"has {len(values)} values; expected 1 or 3")
        sides.append(np.broadcast_to(np.array(values or (usual,), np.float64), (_CHANNELS,)))
    mean, std = sides
    if not std.all():
        raise FieldError("image.std", "holds a zero, which nothing can be divided by")
    pixels = np.arange(256, dtype=np.float64)
    made = (pixels[np.newaxis] * config.scale - mean[:, np.newaxis]) / std[:, np.newaxis]
    return made.astype(np.float32)


def _check_sides(pixels: Array) -> None:
    high, wide = pixels.shape[:2]
    if not 1 <= min(high, wide) <= max(high, wide) <= _MOST_SIDE:
        raise ValueError(f"a picture is {wide}x{high}; the limit is {_MOST_SIDE} on each side")


def _normalised(pixels: Array, table: Array) -> Array:
    planes = [table[channel][pixels[:, :, channel]] for channel in range(_CHANNELS)]
    return np.stack(planes, axis=-1)


def frame_of(shape: Sequence[int], config: ImageConfig, width: int = 0) -> Frame:
    """Sizes and places as the configuration says.

    Args:
        shape: of the picture; height and width come first.
        config: the step's.
        width: of ``fit``: what those of its group have; 0 = its own.

    Raises:
        ValueError: the picture would be too large.
    """
    high, wide = shape[:2]
    if config.resize == "none":
        return Frame((high, wide), (high, wide))
    if config.resize == "multiple":
        size = multiple_size(high, wide, config.min_side, config.multiple)
        return Frame(size, size)
    height = config.height or high
    if config.resize == "fit":
        own = math.ceil(height * (wide / high))
        width = config.width or width or max(own, config.min_width)
        if width > _MOST_SIDE:
            raise ValueError(f"a picture of {wide}x{high} would be {width} pixels wide")
        return Frame((height, width), (height, min(own, width)))
    width = config.width or wide
    if config.resize == "stretch":
        return Frame((height, width), (height, width))
    ratio = min(height / high, width / wide)
    if config.resize == "corner":
        return Frame((height, width), (max(1, int(high * ratio)), max(1, int(wide * ratio))))
    inner = (max(1, round(high * ratio)), max(1, round(wide * ratio)))
    return Frame((height, width), inner, (height - inner[0]) // 2, (width - inner[1]) // 2)


def _resized(pixels: Array, table: Array, pad: float, frame: Frame) -> Array:
    """float32[height,width,3]: the picture in its frame."""
    part = _normalised(resize(pixels, *frame.inner), table)
    if frame.inner == frame.size:
        return part
    made = np.full((*frame.size, _CHANNELS), pad, np.float32)
    bottom, right = frame.top + frame.inner[0], frame.left + frame.inner[1]
    made[frame.top : bottom, frame.left : right] = part
    return made


def multiple_size(high: int, wide: int, min_side: int, multiple: int) -> tuple[int, int]:
    """Height and width of a picture whose sides are to be multiples.

    Raises:
        ValueError: a side would be too long.
    """
    ratio = max(1.0, min_side / min(high, wide))
    sides = [max(multiple, round(int(side * ratio) / multiple) * multiple) for side in (high, wide)]
    if max(sides) > _MOST_SIDE:
        raise ValueError(f"a picture of {wide}x{high} would have {max(sides)} pixels on one side")
    return sides[0], sides[1]


def resize(pixels: Array, height: int, width: int) -> Array:
    """Bilinear interpolation.

    Args:
        pixels: uint8[h,w,c].
        height: wanted.
        width: wanted.

    Returns:
        uint8[height,width,c].
    """
    if pixels.shape[:2] == (height, width):
        return pixels
    low, high, share = _places(pixels.shape[0], height)
    weight = share[:, np.newaxis, np.newaxis]
    rows = pixels[low] * (1 - weight) + pixels[high] * weight
    low, high, share = _places(pixels.shape[1], width)
    weight = share[np.newaxis, :, np.newaxis]
    made = rows[:, low] * (1 - weight) + rows[:, high] * weight
    rounded: Array = np.floor(made + np.float32(0.5)).astype(np.uint8)
    return rounded


def _places(have: int, want: int) -> tuple[Array, Array, Array]:
    """For each wanted pixel the two it lies between, and how near it is to the second."""
    place = np.clip((np.arange(want) + 0.5) * (have / want) - 0.5, 0, have - 1)
    low = np.minimum(place.astype(np.int64), max(have - 2, 0))
    high = np.minimum(low + 1, have - 1)
    return low, high, (place - low).astype(np.float32)


def crop_work(config: CropConfig) -> Work:
    """For each box what a picture shows in it."""

    def outputs(inputs: Mapping[str, TensorSpec]) -> Sequence[TensorSpec]:
        picture, boxes = inputs["from"], inputs["boxes"]
        if picture.dtype != "uint8" or len(picture.shape) != 3 or picture.shape[2] != _CHANNELS:
            raise FieldError("crop.from", f"is {picture}; expected uint8[height,width,3]")
        if boxes.dtype != "float32" or boxes.shape[1:] not in ((4,), (4, 2)):
            raise FieldError("crop.boxes", f"is {boxes}; expected float32[n,4] or float32[n,4,2]")
        return [TensorSpec("crop", "uint8", ("*high", "*wide", _CHANNELS))]

    def run(values: Values) -> Mapping[str, list[Array]]:
        picture, boxes = values["from"], values["boxes"]
        _check_sides(picture)
        if boxes.ndim == 2:
            crops = [straight(picture, box) for box in boxes]
        else:
            crops = _all_warped(picture, boxes)
        if config.turn:
            crops = [_turned(crop, config.turn) for crop in crops]
        return {"crop": crops}

    return Work(
        {"from": config.from_, "boxes": config.boxes}, outputs, run, "spread", is_slow=True,
        count=lambda values: len(values["boxes"]),
    )  # fmt: skip


def _turned(crop: Array, ratio: float) -> Array:
    return np.rot90(crop) if crop.shape[0] / crop.shape[1] >= ratio else crop


def straight(picture: Array, box: Array) -> Array:
    """The pixels within x0 y0 x1 y1, at least one, as a view.

    Raises:
        ValueError: the box has no numbers.
    """
    if not np.isfinite(box).all():
        raise ValueError("a box has corners that are no numbers")
    high, wide = picture.shape[:2]
    x0 = min(max(math.floor(box[0]), 0), wide - 1)
    y0 = min(max(math.floor(box[1]), 0), high - 1)
    x1 = min(max(math.ceil(box[2]), x0 + 1), wide)
    y1 = min(max(math.ceil(box[3]), y0 + 1), high)
    return picture[y0:y1, x0:x1]


def _all_warped(picture: Array, boxes: Array) -> list[Array]:
    crops, pixels = [], 0
    for corners in boxes:
        width, height = _sides(corners)
        pixels += width * height
        if pixels > _MOST_PIXELS:
            raise ValueError(f"the boxes have more than {_MOST_PIXELS} pixels together")
        crops.append(warped(picture, corners))
    return crops


def _sides(corners: Array) -> tuple[int, int]:
    """Width and height of what lies within four corners.

    Raises:
        ValueError: the corners have no numbers, or are too far from each other.
    """
    if not np.isfinite(corners).all():
        raise ValueError("a box has corners that are no numbers")
    points = corners.astype(np.float64)
    sides = np.linalg.norm(points - np.roll(points, -1, axis=0), axis=1)
    width, height = max(1, int(max(sides[0], sides[2]))), max(1, int(max(sides[1], sides[3])))
    if max(width, height) > _MOST_SIDE:
        raise ValueError(f"a box is {max(width, height)} pixels long; the limit is {_MOST_SIDE}")
    return width, height


def warped(picture: Array, corners: Array) -> Array:
    """What lies within four corners, clockwise from the top left, made straight.

    Raises:
        ValueError: the corners have no numbers, or are on one line.
    """
    width, height = _sides(corners)
    target = [(0, 0), (width, 0), (width, height), (0, height)]
    try:
        matrix = homography(target, corners.astype(np.float64))
    except np.linalg.LinAlgError as exc:
        raise ValueError("the corners of a box are on one line") from exc
    made = np.empty((height, width, picture.shape[2]), np.uint8)
    band = max(1, _BAND_PIXELS // width)
    for top in range(0, height, band):
        across, down = np.meshgrid(np.arange(width), np.arange(top, min(top + band, height)))
        bottom = matrix[2, 0] * across + matrix[2, 1] * down + matrix[2, 2]
        x = (matrix[0, 0] * across + matrix[0, 1] * down + matrix[0, 2]) / bottom
        y = (matrix[1, 0] * across + matrix[1, 1] * down + matrix[1, 2]) / bottom
        made[top : top + band] = _cubic(picture, x, y)
    return made


def homography(source: Sequence[tuple[float, float]], target: Array) -> Array:
    """float64[3,3] that takes four points to four others."""
    rows, wanted = [], []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows.append([x, y, 1, 0, 0, 0, -x * u, -y * u])
        rows.append([0, 0, 0, x, y, 1, -x * v, -y * v])
        wanted += [u, v]
    solved = np.linalg.solve(np.array(rows, np.float64), np.array(wanted, np.float64))
    return np.append(solved, 1.0).reshape(3, 3)


def _cubic(picture: Array, x: Array, y: Array) -> Array:
    """Cubic interpolation at places; beyond the edge the edge's pixel goes on."""
    high, wide = picture.shape[:2]
    left, top = np.floor(x), np.floor(y)
    across, down = _weights(x - left), _weights(y - top)
    columns = [np.clip(left + shift, 0, wide - 1).astype(np.int64) for shift in (-1, 0, 1, 2)]
    made = np.zeros((*x.shape, picture.shape[2]))
    for row_shift, row_weight in zip((-1, 0, 1, 2), down, strict=True):
        row = np.clip(top + row_shift, 0, high - 1).astype(np.int64)
        for column, weight in zip(columns, across, strict=True):
            made += picture[row, column] * (row_weight * weight)[:, :, np.newaxis]
    return np.clip(np.round(made), 0, 255).astype(np.uint8)


def _weights(share: Array) -> list[Array]:
    """Of the four neighbours, for a place so far behind the second one."""
    a = _CUBIC
    before, after = share + 1, 1 - share
    first = ((a * before - 5 * a) * before + 8 * a) * before - 4 * a
    second = ((a + 2) * share - (a + 3)) * share * share + 1
    third = ((a + 2) * after - (a + 3)) * after * after + 1
    return [first, second, third, 1 - first - second - third]
