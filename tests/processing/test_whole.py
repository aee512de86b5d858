"""PNG files of every form: whole, or with rows that are missing though the file has its end."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from edged.processing.whole import has_all_rows, is_interlaced
from tests.fakes.pictures import png

FORMS = {
    "one bit": (1, 0, 1),
    "two bits": (2, 0, 1),
    "grey": (8, 0, 1),
    "RGB": (8, 2, 3),
    "palette of 4 bits": (4, 3, 1),
    "grey and alpha": (8, 4, 2),
    "RGBA": (8, 6, 4),
}


def row_bytes(width: int, bits: int, channels: int) -> int:
    return 1 + (width * bits * channels + 7) // 8


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (64, 33)], ids=str)
def test_counted_to_the_byte(form: str, size: tuple[int, int]):
    bits, colour, channels = FORMS[form]
    width, height = size
    data = bytes(height * row_bytes(width, bits, channels))
    good = png(width, height, bits, colour, zlib.compress(data))
    assert has_all_rows(good)
    assert has_all_rows(png(width, height, bits, colour, zlib.compress(data + b"more")))
    assert not has_all_rows(png(width, height, bits, colour, zlib.compress(data[:-1])))
    assert not has_all_rows(png(width, height, bits, colour, zlib.compress(b"")))
    assert not is_interlaced(good)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 5), (9, 17), (64, 33)], ids=str)
def test_interlaced(size: tuple[int, int]):
    """The passes as another reader counts them: one byte less and it is no picture."""
    width, height = size
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2)]
    total = sum(
        (1 + 3 * len(range(x, width, dx))) * len(range(y, height, dy))
        for x, y, dx, dy in [*passes, (0, 1, 1, 2)]
        if x < width
    )
    good = png(width, height, 8, 2, zlib.compress(bytes(total)), interlace=1)
    assert is_interlaced(good)
    assert has_all_rows(good)
    assert not has_all_rows(png(width, height, 8, 2, zlib.compress(bytes(total - 1)), interlace=1))
    with Image.open(io.BytesIO(good)) as picture:
        assert np.asarray(picture).shape == (height, width, 3)


def test_data_in_many_chunks_and_chunks_between():
    data = zlib.compress(np.random.default_rng(3).bytes(10 * row_bytes(10, 8, 3)))
    whole = png(10, 10, 8, 2, data[:5], data[5:40], data[40:])
    assert has_all_rows(whole)
    assert not has_all_rows(png(10, 10, 8, 2, data[:5], data[5:40]))


@pytest.mark.parametrize("cut", [0, 8, 20, 33, 40])
def test_anything_cut_short(cut: int):
    whole = png(10, 10, 8, 2, zlib.compress(bytes(310)))
    assert not has_all_rows(whole[:cut])


def test_a_bomb_is_counted_no_further_than_needed():
    """A row that inflates to 30 MB costs what the header promises."""
    bomb = png(10, 10, 8, 2, zlib.compress(bytes(30 << 20), 9))
    assert has_all_rows(bomb)


def test_noise_in_the_stream():
    broken = bytearray(png(10, 10, 8, 2, zlib.compress(bytes(310), 0)))
    struct.pack_into("<H", broken, 44, 0xFFFF)
    assert not has_all_rows(bytes(broken))
