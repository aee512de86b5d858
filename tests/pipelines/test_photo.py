"""Files of pictures become pixels, and what is no picture becomes a sentence."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
from PIL import Image

from edged.config.pipeline import PictureConfig
from edged.errors import DecodeError, FieldError
from edged.pipelines.photo import picture_work
from edged.tensors import TensorSpec

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)


def file(kind: str = "PNG", pixels: np.ndarray = PIXELS) -> np.ndarray:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, kind, quality=95)
    return np.frombuffer(data.getvalue(), np.uint8)


def test_pixels():
    work = picture_work(PictureConfig(from_="f"))
    (spec,) = work.outputs({"from": TensorSpec("from", "uint8", ("bytes",))})
    assert str(spec) == "uint8[*height,*width,3]"
    np.testing.assert_array_equal(work.run({"from": file()})["pixels"], PIXELS)
    flat = np.full((9, 4, 3), 77, np.uint8)
    np.testing.assert_array_equal(work.run({"from": file("JPEG", flat)})["pixels"], flat)
    grey = work.run({"from": file("PNG", PIXELS[:, :, 0])})["pixels"]
    np.testing.assert_array_equal(grey, np.repeat(PIXELS[:, :, :1], 3, axis=2))


def test_no_picture():
    work = picture_work(PictureConfig(from_="f"))
    with pytest.raises(DecodeError, match="expected a PNG or JPEG"):
        work.run({"from": np.zeros(9, np.uint8)})
    with pytest.raises(DecodeError, match="cut short"):
        work.run({"from": file()[:-20]})
    with pytest.raises(FieldError, match=r"expected a file's bytes"):
        work.outputs({"from": TensorSpec("from", "uint8", ("h", "w", 3))})


def test_without_pillow(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(FieldError, match=r"edged\[images\]") as caught:
        picture_work(PictureConfig(from_="f"))
    assert caught.value.path == "picture"
