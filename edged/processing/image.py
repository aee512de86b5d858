"""Pictures to tensors: PNG and JPEG, checked from their headers before a pixel is decoded.

Decides which files are pictures we accept and what each pixel becomes. Refused: other formats, more
than MAX_PIXELS, 16 bits a channel, CMYK, see-through pixels, files cut short, also with an end mark
put behind the cut (a loss within a JPEG's last block or a progressive one's last scan goes
unseen). Converted: palette, grey and one-bit pictures to the input's mode; EXIF orientation is
applied, so the model sees what people see. Colour profiles and gamma are ignored, as training
pipelines do. Pillow is imported when the first codec is built.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from edged.errors import DecodeError, FieldError, TooLargeError
from edged.processing import whole
from edged.specs import ImageInput
from edged.tensors import DTYPES, Array, TensorSpec

if TYPE_CHECKING:
    from PIL import Image

MAX_IMAGE_BYTES = 32 << 20
"""A lossless 4K frame has up to 24 MiB."""
MAX_PIXELS = 7680 * 4320
"""An 8K frame: 100 MB once decoded to RGB."""

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND\xaeB`\x82"
_JPEG = b"\xff\xd8\xff"
_JPEG_SCAN = b"\xff\xda"
MAX_SCANS = 50
"""A decoder walks the whole picture for each scan of a progressive JPEG, and a scan may be 14 bytes
long: a file of a few kilobytes would take hours. Pillow writes 10."""
_JPEG_END = b"\xff\xd9"
_EXIF_ORIENTATION = 0x0112
_MISSING_GREY = 128
"""What a decoder makes of a block that is not there: all coefficients are zero."""
_SPARE_BYTES = 256
"""Zeros that fill more than the next block, if one is missing."""
_OBJECT = re.compile(r"\s*<[^<>]* object at 0x[0-9a-f]+>")
"""Pillow names its file object; an address of ours is nobody's business."""
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""JPEG markers that open a frame; C4, C8 and CC are tables and extensions."""


class ImageCodec:
    """Decodes one picture to one row.

    Args:
        spec: the input.
        work: the bundle's word on how pixels become numbers.

    Raises:
        FieldError: the picture cannot have the input's shape or dtype, or Pillow is missing.
    """

    is_slow = True

    def __init__(self, spec: TensorSpec, work: ImageInput) -> None:
        require_pillow()
        self._name = spec.name
        self._work = work
        self._tables = _pixel_tables(spec, work)
        channels = len(self._tables)
        self._shape = _layout_shape(work, channels)
        fits = len(self._shape) == len(spec.shape) and all(
            isinstance(wanted, str) or wanted == got
            for wanted, got in zip(spec.shape, self._shape, strict=True)
        )
        if not fits:
            raise FieldError(
                "codec",
                f"a {work.mode} picture of {work.width}x{work.height} in layout {work.layout} is "
                f'{list(self._shape)}; input "{spec.name}" is {spec}',
            )

    def decode(self, payload: bytes) -> dict[str, Array]:
        """Read one picture; may take many milliseconds.

        Returns:
            By input name, shape [1, …] in the bundle's layout.

        Raises:
            DecodeError: not a picture that is accepted; says why.
        """
        pixels = _pixels(payload, lambda picture: _fit(picture, self._work), self._work.mode)
        planes = [table[pixels[:, :, index]] for index, table in enumerate(self._tables)]
        axis = 0 if self._work.layout == "NCHW" else -1
        array = np.stack(planes, axis=axis)
        return {self._name: np.ascontiguousarray(array.reshape(self._shape))}


class PictureCodec:
    """Decodes one picture to its pixels, whatever its size: for inputs that steps bring to size.

    Args:
        spec: the input, uint8[height,width,3].

    Raises:
        FieldError: the input is no picture of any size, or Pillow is missing.
    """

    is_slow = True

    def __init__(self, spec: TensorSpec) -> None:
        require_pillow()
        if not takes_pixels(spec):
            raise FieldError("codec", f'input "{spec.name}" is {spec}; expected {PIXELS}')
        self._name = spec.name

    def decode(self, payload: bytes) -> dict[str, Array]:
        """Read one picture; may take many milliseconds. Raises as ``decode_picture``."""
        return {self._name: decode_picture(payload)}


PIXELS = "uint8[height,width,3]"
"""What a picture of any size is; RGB."""


def takes_pixels(spec: TensorSpec) -> bool:
    """Whether an input takes a picture of any size."""
    free = [isinstance(axis, str) for axis in spec.shape]
    return spec.dtype == "uint8" and free == [True, True, False] and spec.shape[2] == 3


def decode_picture(payload: bytes) -> Array:
    """The pixels of a PNG or JPEG, as people see them: uint8[height,width,3], RGB.

    Raises:
        DecodeError: not a picture that is accepted; says why.
        TooLargeError: too many bytes or pixels.
    """
    return _pixels(payload, lambda picture: picture, "RGB")


def _pixels(payload: bytes, fit: Callable[[Image.Image], Image.Image], mode: str) -> Array:
    """uint8[height, width, channels], channels in the mode's order."""
    try:
        return _decode_pixels(payload, fit, mode)
    except (DecodeError, TooLargeError):
        raise
    except Exception as exc:  # Pillow raises a dozen classes, some by mistake, on bad files
        reason = _OBJECT.sub("", str(exc))[:128]
        raise DecodeError(f"the picture does not decode: {reason}") from exc


def require_pillow(path: str = "codec") -> None:
    """Refuse work that nobody could do; raises FieldError at ``path``."""
    try:
        import PIL.Image  # noqa: F401, PLC0415 - only who decodes pictures pays for it
    except ImportError as exc:
        raise FieldError(
            path, 'pictures need Pillow; install it with: pip install "edged[images]"'
        ) from exc


def _pixel_tables(spec: TensorSpec, work: ImageInput) -> list[Array]:
    """For each channel the 256 values a pixel may become: exact, and one look-up a pixel."""
    channels = 1 if work.mode == "L" else 3
    dtype = DTYPES[spec.dtype].numpy
    pixels = np.arange(256, dtype=np.float64)
    tables = []
    for channel in range(channels):
        mean = _of_channel("mean", work.mean, channel, channels, 0.0)
        std = _of_channel("std", work.std, channel, channels, 1.0)
        if not std:
            raise FieldError("codec", "the bundle's std holds a zero")
        exact = (pixels * work.scale - mean) / std
        with np.errstate(over="ignore", invalid="ignore"):
            table = exact.astype(dtype)
        is_exact = dtype.kind == "f" or np.array_equal(table.astype(np.float64), exact)
        if not np.isfinite(table.astype(np.float64)).all() or not is_exact:
            raise FieldError(
                "codec",
                f'the bundle\'s scale, mean and std give values that input "{spec.name}" of '
                f"{spec.dtype} cannot hold",
            )
        tables.append(table)
    return tables


def _of_channel(
    word: str, values: tuple[float, ...], channel: int, channels: int, default: float
) -> float:
    if not values:
        return default
    if len(values) not in {1, channels}:
        raise FieldError(
            "codec", f"the bundle's {word} has {len(values)} values; expected 1 or {channels}"
        )
    return values[channel % len(values)]


def _layout_shape(work: ImageInput, channels: int) -> tuple[int, ...]:
    if work.layout == "NCHW":
        return (1, channels, work.height, work.width)
    if work.layout == "NHWC":
        return (1, work.height, work.width, channels)
    if work.layout == "NHW":
        if channels != 1:
            raise FieldError("codec", "layout NHW has no room for colours; the mode must be L")
        return (1, work.height, work.width)
    return (1, work.height * work.width * channels)


def _decode_pixels(payload: bytes, fit: Callable[[Image.Image], Image.Image], mode: str) -> Array:
    from PIL import Image, ImageOps  # noqa: PLC0415 - only who decodes pictures pays for it

    kind = check_header(payload)
    with Image.open(io.BytesIO(payload), formats=[kind]) as opened:
        _check_pixels(*opened.size)
        if opened.mode == "CMYK":
            raise DecodeError("the picture is CMYK; expected grey or RGB")
        opened.load()
        _check_rows(payload, opened)
        picture: Image.Image = opened
        if opened.getexif().get(_EXIF_ORIENTATION, 1) != 1:
            picture = ImageOps.exif_transpose(opened)
        picture = _flatten(picture).convert("L" if mode == "L" else "RGB")
    pixels = np.asarray(fit(picture))
    if mode == "L":
        return pixels[:, :, np.newaxis]
    return pixels[:, :, ::-1] if mode == "BGR" else pixels


def _check_rows(payload: bytes, opened: Image.Image) -> None:
    """Refuse a picture whose data end early though its end mark is there, as Pillow does not.

    Rows that are missing are black in a PNG and mid-grey in a JPEG, the last pixel among them; only
    such a picture is looked at again.
    """
    corner = opened.getpixel((opened.width - 1, opened.height - 1))
    samples = corner if isinstance(corner, tuple) else (corner,)
    if opened.format == "PNG":
        if (whole.is_interlaced(payload) or not any(samples)) and not whole.has_all_rows(payload):
            raise DecodeError("the PNG is cut short: rows are missing")
    elif set(samples) == {_MISSING_GREY} and not _has_all_blocks(payload, opened):
        raise DecodeError("the JPEG is cut short: a part of its picture is missing")


def _has_all_blocks(payload: bytes, opened: Image.Image) -> bool:
    """Whether zeros before the end mark of a JPEG change nothing: then no block was waiting."""
    from PIL import Image  # noqa: PLC0415 - only who decodes pictures pays for it

    end = payload.find(_JPEG_END, _scan_start(payload))
    longer = payload[:end] + bytes(_SPARE_BYTES) + payload[end:]
    with Image.open(io.BytesIO(longer), formats=["JPEG"]) as again:
        return bool(again.tobytes() == opened.tobytes())


def check_header(payload: bytes) -> str:
    """Say whether it is PNG or JPEG, from the header alone.

    Returns:
        ``PNG`` or ``JPEG``.

    Raises:
        TooLargeError: too many bytes or pixels.
        DecodeError: another format, cut short, or 16 bits a channel.
    """
    if len(payload) > MAX_IMAGE_BYTES:
        raise TooLargeError(f"a picture of {len(payload)} bytes; the limit is {MAX_IMAGE_BYTES}")
    if payload.startswith(_PNG):
        _check_png(payload)
        return "PNG"
    if payload.startswith(_JPEG):
        _check_jpeg(payload)
        return "JPEG"
    raise DecodeError(
        f"expected a PNG or JPEG picture; got {len(payload)} bytes that begin with "
        f"{payload[:8].hex(' ') or 'nothing'}"
    )


def _check_png(payload: bytes) -> None:
    if len(payload) < 33 or payload[12:16] != b"IHDR":
        raise DecodeError("the PNG has no header chunk")
    width, height, bits = struct.unpack_from(">IIB", payload, 16)
    _check_pixels(width, height)
    if bits == 16:
        raise DecodeError("the PNG has 16 bits a channel; expected 8 (a cut would lose half)")
    if _PNG_END not in payload:
        raise DecodeError("the PNG is cut short: it has no end chunk")


def _check_jpeg(payload: bytes) -> None:
    start = _scan_start(payload)
    if payload.find(_JPEG_END, start) < 0:
        raise DecodeError("the JPEG is cut short: it has no end marker")
    # In the data of a scan the mark cannot occur; in what stands between, it hardly does.
    scans = payload.count(_JPEG_SCAN, start) + 1
    if scans > MAX_SCANS:
        raise TooLargeError(f"a JPEG of {scans} scans; the limit is {MAX_SCANS}")


def _scan_start(payload: bytes) -> int:
    """Walk the segments up to the first scan's data; every frame header on the way is checked."""
    at, frames = 2, 0
    while True:
        if at + 4 > len(payload) or payload[at] != 0xFF:
            raise DecodeError("the JPEG is cut short or malformed before its first scan")
        marker = payload[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker in {0x01, *range(0xD0, 0xD9)}:  # markers without a body
            at += 2
            continue
        length = int.from_bytes(payload[at + 2 : at + 4], "big")
        if marker in _FRAMES:
            if length < 8 or at + 10 > len(payload):
                raise DecodeError("the JPEG's frame header is cut short")
            bits, height, width = struct.unpack_from(">BHH", payload, at + 4)
            _check_pixels(width, height)
            if bits != 8:
                raise DecodeError(f"the JPEG has {bits} bits a channel; expected 8")
            frames += 1
        at += 2 + length
        if marker == 0xDA:
            break
    if not frames:
        raise DecodeError("the JPEG is malformed: no frame header before its first scan")
    return at


def _check_pixels(width: int, height: int) -> None:
    if not width or not height:
        raise DecodeError("the picture has no pixels")
    if width * height > MAX_PIXELS:
        raise TooLargeError(
            f"a picture of {width}x{height}; the limit is {MAX_PIXELS} pixels (an 8K frame)"
        )


def _flatten(picture: Image.Image) -> Image.Image:
    """Drop an alpha channel that hides nothing; a hidden pixel has no colour to show a model."""
    if "A" not in picture.mode and "transparency" not in picture.info:
        return picture
    seen = picture.convert("RGBA")
    if seen.getchannel("A").getextrema() != (255, 255):
        raise DecodeError("the picture has see-through pixels; flatten it before sending")
    return seen.convert("RGB")


def _fit(picture: Image.Image, work: ImageInput) -> Image.Image:
    from PIL import Image  # noqa: PLC0415 - only who decodes pictures pays for it

    size = (work.width, work.height)
    if picture.size == size:
        return picture
    if work.resize == "exact":
        raise DecodeError(
            f"a picture of {picture.width}x{picture.height}; the model takes "
            f"{work.width}x{work.height} exactly"
        )
    if work.resize == "stretch":
        return picture.resize(size, Image.Resampling.BILINEAR)
    ratio = min(work.width / picture.width, work.height / picture.height)
    inner = (max(1, round(picture.width * ratio)), max(1, round(picture.height * ratio)))
    canvas = Image.new(picture.mode, size)
    offset = ((work.width - inner[0]) // 2, (work.height - inner[1]) // 2)
    canvas.paste(picture.resize(inner, Image.Resampling.BILINEAR), offset)
    return canvas
