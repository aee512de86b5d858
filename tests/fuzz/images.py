"""Pictures."""

from __future__ import annotations

import io
from functools import cache

import numpy as np
from PIL import Image

from edged.errors import InvalidRequestError
from edged.processing.image import ImageCodec
from edged.specs import ImageInput
from tests.fakes.manifests import make_manifest as bare_manifest

_PICTURE = bare_manifest(
    [("x", "float32", ("batch", 3, 6, 4))],
    input_processing={"x": ImageInput(width=4, height=6, resize="letterbox")},
)


@cache
def _image_codec() -> ImageCodec:
    # Imported above, not by the first build_codec: atheris guides by what it saw being imported.
    return ImageCodec(_PICTURE.input_specs()[0], _PICTURE.input_processing["x"])


def run_image(data: bytes) -> None:
    """A picture of the model's size, or refused."""
    try:
        tensor = _image_codec().decode(data)["x"]
    except InvalidRequestError:
        return
    assert tensor.shape == (1, 3, 6, 4)


def seed_images() -> list[bytes]:
    pixels = np.random.default_rng(7).integers(0, 256, (6, 4, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    ways: list[tuple[str, str, dict[str, object]]] = [
        ("RGB", "PNG", {}),
        ("P", "PNG", {}),
        ("1", "PNG", {}),
        ("RGBA", "PNG", {}),
        ("RGB", "JPEG", {}),
        ("RGB", "JPEG", {"progressive": True}),
        ("L", "JPEG", {"exif": exif}),
        ("CMYK", "JPEG", {}),
    ]
    found = []
    for mode, kind, options in ways:
        out = io.BytesIO()
        Image.fromarray(pixels).convert(mode).save(out, kind, **options)
        found.append(out.getvalue())
    return found
