"""Pictures: sizes, places and values, by hand and against Pillow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.config.pipeline import CropConfig, ImageConfig
from edged.errors import FieldError
from edged.pipelines.picture import (
    PLACE,
    Frame,
    crop_work,
    frame_of,
    group_widths,
    image_work,
    multiple_size,
    resize,
    warped,
)
from edged.tensors import TensorSpec

SPEC = TensorSpec("from", "uint8", ("h", "w", 3))


def picture(high: int, wide: int) -> np.ndarray:
    y, x = np.mgrid[:high, :wide]
    return np.stack([x * 3 % 256, y * 5 % 256, (x + y) % 256], axis=-1).astype(np.uint8)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_enlarging_is_what_pillow_makes(high: int, wide: int, more: int, wider: int):
    """Pillow filters when it shrinks; enlarged, both interpolate between the same two pixels."""
    from PIL import Image

    size = (high + more, wide + wider)
    pixels = picture(high, wide)
    wanted = np.asarray(Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BILINEAR))
    got = resize(pixels, *size)
    assert np.abs(got.astype(int) - wanted.astype(int)).max() <= 1


def test_the_same_size_is_not_touched():
    pixels = picture(5, 7)
    assert resize(pixels, 5, 7) is pixels


IMAGES = {
    "none": ({}, (20, 30)),
    "stretch": ({"resize": "stretch", "width": 8, "height": 6}, (6, 8)),
    "letterbox": ({"resize": "letterbox", "width": 40, "height": 40}, (40, 40)),
    "corner": ({"resize": "corner", "width": 40, "height": 50}, (50, 40)),
    "fit, cut to a width": ({"resize": "fit", "height": 10, "width": 12}, (10, 12)),
    "fit": ({"resize": "fit", "height": 10}, (10, 15)),
    "fit, at least": ({"resize": "fit", "height": 10, "min_width": 50}, (10, 50)),
    "multiple": ({"resize": "multiple", "min_side": 60}, (64, 96)),
}


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("name", IMAGES)
def test_shapes_are_as_foretold(name: str, layout: str):
    fields, size = IMAGES[name]
    work = image_work(ImageConfig(from_="p", layout=layout, **fields))
    spec, place = work.outputs({"from": SPEC})
    made = work.run({"from": picture(20, 30)})
    got = made["image"]
    assert work.main == "image"
    assert made["place"].shape == place.shape == (len(PLACE),)
    assert got.shape == ((1, 3, *size) if layout == "NCHW" else (1, *size, 3))
    assert all(isinstance(a, str) or a == b for a, b in zip(spec.shape, got.shape, strict=True))
    assert got.dtype == np.float32
    assert got.flags.c_contiguous


def test_values_and_padding():
    config = ImageConfig(
        from_="p", resize="letterbox", width=30, height=40, pad=-7, swap=True,
        scale=1 / 255, mean=(0.5, 0.25, 0), std=(0.5,),
    )  # fmt: skip
    pixels = picture(20, 30)
    got = image_work(config).run({"from": pixels})["image"][0]
    assert (got[:, :10] == -7).all()
    assert (got[:, 30:] == -7).all()
    wanted = (pixels[:, :, ::-1] / 255 - [0.5, 0.25, 0]) / 0.5
    np.testing.assert_allclose(got[:, 10:30], wanted.transpose(2, 0, 1), rtol=1e-5, atol=1e-6)


PLACES = {
    "none": ({}, Frame((20, 31), (20, 31))),
    "stretch": ({"resize": "stretch", "width": 60, "height": 10}, Frame((10, 60), (10, 60))),
    "wider": ({"resize": "letterbox", "width": 60, "height": 60}, Frame((60, 60), (39, 60), 10, 0)),
    "higher": (
        {"resize": "letterbox", "width": 90, "height": 41},
        Frame((41, 90), (41, 64), 0, 13),
    ),
    "corner": ({"resize": "corner", "width": 90, "height": 41}, Frame((41, 90), (41, 63))),
    "fit": ({"resize": "fit", "height": 10, "min_width": 50}, Frame((10, 50), (10, 16))),
    "multiple": ({"resize": "multiple", "min_side": 60}, Frame((64, 96), (64, 96))),
}


@pytest.mark.parametrize("name", PLACES)
def test_places(name: str):
    fields, frame = PLACES[name]
    assert frame_of((20, 31, 3), ImageConfig(from_="p", **fields)) == frame
    place = dict(zip(PLACE, frame.place((20, 31, 3)).tolist(), strict=True))
    assert (place["width"], place["height"]) == (31, 20)
    assert (place["model_height"], place["model_width"]) == frame.size
    right = (frame.left + frame.inner[1] - place["left"]) / place["scale_x"]
    bottom = (frame.top + frame.inner[0] - place["top"]) / place["scale_y"]
    assert (right, bottom) == pytest.approx((31, 20))


@pytest.mark.parametrize("resize", ["letterbox", "corner"])
def test_what_is_drawn_lies_where_place_says(resize: str):
    pixels = np.zeros((200, 330, 3), np.uint8)
    pixels[60:120, 90:240] = 255
    work = image_work(ImageConfig(from_="p", resize=resize, width=150, height=170, pad=0))
    made = work.run({"from": pixels})
    rows, columns = np.nonzero(made["image"][0, 0] > 127)
    place = dict(zip(PLACE, made["place"].tolist(), strict=True))
    ends = np.array([columns.min(), columns.max() + 1])
    assert (ends - place["left"]) / place["scale_x"] == pytest.approx((90, 240), abs=1.5)
    ends = np.array([rows.min(), rows.max() + 1])
    assert (ends - place["top"]) / place["scale_y"] == pytest.approx((60, 120), abs=1.5)


def test_sides_have_a_limit():
    assert multiple_size(100, 33, 32, 32) == (96, 32)
    with pytest.raises(ValueError, match="on one side"):
        multiple_size(1, 4000, 736, 32)
    config = ImageConfig(from_="p", resize="fit", height=48)
    with pytest.raises(ValueError, match="pixels wide"):
        image_work(config).run({"from": picture(1, 4000)})


@pytest.mark.hostile("H5 a model that finds boxes without end, far outside or of no numbers")
def test_straight_crops_stay_inside():
    pixels = picture(10, 12)
    boxes = np.array(
        [[2, 3, 5, 7], [-4, -4, 3.5, 2], [11.5, 9.5, 90, 90], [5, 5, 5, 5]], np.float32
    )
    crops = crop_work(CropConfig(from_="p", boxes="b")).run({"from": pixels, "boxes": boxes})[
        "crop"
    ]
    assert [crop.shape for crop in crops] == [(4, 3, 3), (2, 4, 3), (1, 1, 3), (1, 1, 3)]
    np.testing.assert_array_equal(crops[0], pixels[3:7, 2:5])


def test_turned_crops():
    pixels = picture(40, 40)
    boxes = np.array([[0, 0, 4, 8], [0, 0, 8, 4]], np.float32)
    work = crop_work(CropConfig(from_="p", boxes="b", turn=1.5))
    crops = work.run({"from": pixels, "boxes": boxes})["crop"]
    assert [crop.shape for crop in crops] == [(4, 8, 3), (4, 8, 3)]
    np.testing.assert_array_equal(crops[0], np.rot90(pixels[:8, :4]))


def test_four_corners_without_a_turn_are_the_pixels_themselves():
    pixels = picture(20, 30)
    corners = np.array([[3, 4], [13, 4], [13, 11], [3, 11]], np.float32)
    np.testing.assert_array_equal(warped(pixels, corners), pixels[4:11, 3:13])


def test_four_corners_of_a_turned_picture():
    pixels = picture(20, 30)
    corners = np.array([[13, 4], [13, 11], [3, 11], [3, 4]], np.float32)
    got = warped(pixels, corners)
    assert got.shape == (10, 7, 3)
    np.testing.assert_array_equal(got, np.rot90(pixels[4:11, 4:14]))


@pytest.mark.parametrize(
    ("corners", "why"),
    [
        ([[0, 0], [1, 1], [2, 2], [3, 3]], "on one line"),
        ([[0, 0], [np.nan, 0], [1, 1], [0, 1]], "no numbers"),
        ([[0, 0], [1e6, 0], [1e6, 1], [0, 1]], "the limit is 16384"),
    ],
)
@pytest.mark.hostile("H5 a model that finds boxes without end, far outside or of no numbers")
def test_boxes_that_are_none(corners: list, why: str):
    with pytest.raises(ValueError, match=why):
        warped(picture(9, 9), np.array(corners, np.float32))


@pytest.mark.hostile(
    "H6 a picture of a pixel by millions, or boxes whose pixels no memory would hold"
)
def test_a_picture_that_is_too_long_is_not_resized():
    long = np.broadcast_to(np.uint8(1), (1, 20000, 3))
    for config in (
        ImageConfig(from_="p", resize="stretch", width=320, height=320),
        ImageConfig(from_="p", resize="letterbox", width=320, height=320),
        ImageConfig(from_="p", resize="multiple", min_side=736),
        ImageConfig(from_="p"),
    ):
        with pytest.raises(ValueError, match="20000x1; the limit is 16384 on each side"):
            image_work(config).run({"from": long})
    boxes = np.zeros((1, 4), np.float32)
    for pixels in (long, np.zeros((0, 3, 3), np.uint8)):
        with pytest.raises(ValueError, match="the limit is 16384"):
            crop_work(CropConfig(from_="p", boxes="b")).run({"from": pixels, "boxes": boxes})


@pytest.mark.hostile(
    "H6 a picture of a pixel by millions, or boxes whose pixels no memory would hold"
)
def test_boxes_that_are_too_much_together():
    side = 4096
    box = np.array([[0, 0], [side, 0], [side, side], [0, side]], np.float32)
    work = crop_work(CropConfig(from_="p", boxes="b"))
    with pytest.raises(ValueError, match="more than 33554432 pixels together"):
        work.run({"from": picture(9, 9), "boxes": np.stack([box * 4])})
    small = np.array([[0, 0], [2, 0], [2, 2], [0, 2]], np.float32)
    with pytest.raises(ValueError, match="more than 33554432 pixels together"):
        work.run({"from": picture(9, 9), "boxes": np.stack([small, box * 2])})


def test_what_is_made_straight_in_bands_is_the_same(monkeypatch: pytest.MonkeyPatch):
    pixels = picture(40, 50)
    corners = np.array([[3, 4], [45, 9], [40, 37], [1, 30]], np.float32)
    whole = warped(pixels, corners)
    monkeypatch.setattr("edged.pipelines.picture._BAND_PIXELS", 5 * whole.shape[1] + 3)
    np.testing.assert_array_equal(warped(pixels, corners), whole)


def test_items_of_a_group_have_one_width():
    config = ImageConfig(from_="p", resize="fit", height=10, min_width=12, group=2)
    shapes = [(10, 40), (20, 10), (5, 5), (10, 31)]
    assert group_widths(shapes, config) == [40, 12, 12, 40]
    made = image_work(config).run_items([{"from": picture(*shape)} for shape in shapes])
    assert [one["image"].shape[-1] for one in made] == [40, 12, 12, 40]
    assert not made[3]["image"][..., 31:].any()
    assert image_work(ImageConfig(from_="p", resize="fit", height=10)).run_items is None
    with pytest.raises(FieldError, match="is for resize: fit without width"):
        image_work(ImageConfig(from_="p", resize="fit", height=10, width=9, group=2))
