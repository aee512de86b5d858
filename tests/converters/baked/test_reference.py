import numpy as np
import pytest

from converters.baked.reference import CHUNK_ROWS, preprocess, resize_weights
from converters.baked.words import Bake, Resize


def test_a_resize_by_hand():
    down = resize_weights(4, 2, antialias=False)
    np.testing.assert_allclose(down, [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])
    smooth = resize_weights(4, 2, antialias=True)
    np.testing.assert_allclose(smooth * 7, [[3, 3, 1, 0], [0, 1, 3, 3]])
    up = resize_weights(2, 4, antialias=False)
    np.testing.assert_allclose(up, [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]])
    np.testing.assert_allclose(resize_weights(2, 4, antialias=True), up)
    np.testing.assert_allclose(resize_weights(3, 3, antialias=True), np.eye(3))


def test_normalise_and_layout_by_hand():
    raw = np.arange(2 * 3, dtype=np.uint8).reshape(1, 1, 2, 3)
    work = Bake(scale=0.5, mean=(1.0, 2.0, 3.0), std=(2.0, 4.0, 8.0))
    ready = preprocess(work, raw)
    assert ready.dtype == np.float32
    assert ready.shape == (1, 3, 1, 2)
    np.testing.assert_allclose(ready[0, :, 0, 0], [-0.5, -1.5 / 4, -2 / 8])
    np.testing.assert_allclose(ready[0, :, 0, 1], [(1.5 - 1) / 2, 0.0, -0.5 / 8])
    other = Bake(layout="NCHW", model_layout="NHWC", scale=0.5, mean=(1, 2, 3), std=(2, 4, 8))
    np.testing.assert_array_equal(
        preprocess(other, raw.transpose(0, 3, 1, 2)), ready.transpose(0, 2, 3, 1)
    )


def test_rows_are_done_in_chunks(pictures):
    many = np.concatenate([pictures] * 3)
    assert len(many) > 2 * CHUNK_ROWS
    work = Bake(resize=Resize(height=5, width=7))
    ready = preprocess(work, many)
    np.testing.assert_array_equal(ready[-12:], preprocess(work, pictures))


@pytest.mark.parametrize("size", [(8, 6), (31, 40), (20, 5)])
def test_antialias_is_pillows_but_for_its_rounding(pictures, size):
    from PIL import Image

    work = Bake(resize=Resize(height=size[0], width=size[1], antialias=True), model_layout="NHWC")
    wanted = [
        np.asarray(Image.fromarray(one).resize(size[::-1], Image.Resampling.BILINEAR))
        for one in pictures
    ]
    # It rounds to whole levels after each of its two passes.
    assert np.abs(preprocess(work, pictures) - np.stack(wanted)).max() <= 1.01


@pytest.mark.frameworks
@pytest.mark.parametrize("antialias", [False, True])
def test_both_are_torchs(antialias):
    import torch

    raw = np.random.default_rng(1).integers(0, 256, (2, 120, 161, 3)).astype(np.uint8)
    planes = torch.from_numpy(raw.transpose(0, 3, 1, 2).astype(np.float32))
    for size in ((56, 56), (200, 90)):
        work = Bake(resize=Resize(height=size[0], width=size[1], antialias=antialias))
        wanted = torch.nn.functional.interpolate(
            planes, size=size, mode="bilinear", align_corners=False, antialias=antialias
        )
        assert np.abs(preprocess(work, raw) - wanted.numpy()).max() < 0.02
