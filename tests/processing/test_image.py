import io
import struct
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from edged.errors import DecodeError, FieldError, InvalidRequestError, TooLargeError
from edged.processing.image import MAX_IMAGE_BYTES, ImageCodec, check_header
from edged.specs import ImageInput
from edged.tensors import TensorSpec
from tests.fakes.pictures import png

RNG = np.random.default_rng(7)
RGB = RNG.integers(0, 256, (6, 4, 3), dtype=np.uint8)


def encode(picture, kind="PNG", **options):
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def codec(shape=("batch", 3, 6, 4), dtype="float32", **work):
    return ImageCodec(TensorSpec("x", dtype, shape), ImageInput(**{"width": 4, "height": 6} | work))


def decode(payload, **kwargs):
    return codec(**kwargs).decode(payload)["x"]


@pytest.mark.parametrize(
    ("layout", "mode", "shape", "expected"),
    [
        ("NCHW", "RGB", (1, 3, 6, 4), RGB.transpose(2, 0, 1)[None]),
        ("NHWC", "RGB", (1, 6, 4, 3), RGB[None]),
        ("NHWC", "BGR", (1, 6, 4, 3), RGB[None, :, :, ::-1]),
        ("flat", "RGB", (1, 72), RGB.reshape(1, -1)),
    ],
)
def test_layouts_and_modes(layout, mode, shape, expected):
    tensor = decode(encode(RGB), shape=("batch", *shape[1:]), layout=layout, mode=mode)
    assert tensor.shape == shape
    assert tensor.flags.c_contiguous
    np.testing.assert_array_equal(tensor, expected)


@pytest.mark.parametrize(
    ("layout", "shape"), [("NHW", ("batch", 6, 4)), ("NCHW", (1, 1, 6, 4)), ("flat", ("batch", 24))]
)
def test_grey(layout, shape):
    grey = np.asarray(Image.fromarray(RGB).convert("L"))
    tensor = decode(encode(RGB), shape=shape, mode="L", layout=layout)
    np.testing.assert_array_equal(tensor.reshape(6, 4), grey)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_scale_mean_and_std(dtype):
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    tensor = decode(
        encode(RGB), dtype=dtype, scale=1 / 255, mean=mean, std=std, layout="NHWC",
        shape=("batch", 6, 4, 3),
    )  # fmt: skip
    expected = ((RGB.astype(np.float64) / 255 - mean) / std).astype(dtype)
    assert tensor.dtype == np.dtype(dtype)
    np.testing.assert_allclose(tensor[0], expected, rtol=1e-3 if dtype == "float16" else 1e-6)


def test_integers_pass_unchanged():
    tensor = decode(encode(RGB), dtype="uint8", layout="NHWC", shape=("batch", 6, 4, 3))
    np.testing.assert_array_equal(tensor[0], RGB)


def test_resize():
    big = RNG.integers(0, 256, (24, 8, 3), dtype=np.uint8)
    with pytest.raises(DecodeError, match="8x24; the model takes 4x6 exactly"):
        decode(encode(big))
    stretched = decode(encode(big), resize="stretch", layout="NHWC", shape=("batch", 6, 4, 3))
    reference = Image.fromarray(big).resize((4, 6), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(stretched[0], np.asarray(reference))
    boxed = decode(encode(big), resize="letterbox", layout="NHWC", shape=("batch", 6, 4, 3))[0]
    inner = Image.fromarray(big).resize((2, 6), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(boxed[:, 1:3], np.asarray(inner))
    assert not boxed[:, [0, 3]].any()


def test_letterbox_of_a_thin_picture_keeps_a_pixel():
    thin = np.full((1, 400, 3), 200, np.uint8)
    assert decode(encode(thin), resize="letterbox").max() == 200


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_palette_grey_and_one_bit_are_converted_as_pillow_does(mode):
    picture = Image.fromarray(RGB).convert(mode)
    expected = np.asarray(picture.convert("RGB")).transpose(2, 0, 1)
    np.testing.assert_array_equal(decode(encode(picture))[0], expected)


def test_alpha_that_hides_nothing_is_dropped():
    opaque = np.dstack([RGB, np.full((6, 4), 255, np.uint8)])
    np.testing.assert_array_equal(decode(encode(opaque)), decode(encode(RGB)))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_see_through_pixels_are_refused(mode):
    picture = Image.fromarray(RGB).convert(mode)
    options = {}
    if mode == "P":
        options["transparency"] = picture.getpixel((0, 0))
    else:
        picture.putalpha(7)
    with pytest.raises(DecodeError, match="see-through"):
        decode(encode(picture, **options))


@pytest.mark.hostile("H3 CMYK, 16 bits a channel, a turned picture by EXIF")
def test_cmyk_is_refused():
    with pytest.raises(DecodeError, match="CMYK"):
        decode(encode(Image.fromarray(RGB).convert("CMYK"), "JPEG"))


@pytest.mark.hostile("H3 CMYK, 16 bits a channel, a turned picture by EXIF")
def test_16_bits_are_refused():
    deep = Image.fromarray(np.full((6, 4), 40000, np.uint16))
    with pytest.raises(DecodeError, match="16 bits"):
        decode(encode(deep))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.hostile("H3 CMYK, 16 bits a channel, a turned picture by EXIF")
def test_exif_orientation_is_applied(orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    payload = encode(RGB, kind, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(payload)))
    tensor = decode(
        payload, width=upright.width, height=upright.height, layout="NHWC",
        shape=("batch", upright.height, upright.width, 3),
    )  # fmt: skip
    np.testing.assert_array_equal(tensor[0], np.asarray(upright))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 100, "subsampling": 0}])
def test_jpeg(options):
    payload = encode(RGB, "JPEG", **options)
    reference = np.asarray(Image.open(io.BytesIO(payload)))
    np.testing.assert_array_equal(decode(payload)[0], reference.transpose(2, 0, 1))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.hostile("H2 a picture that is cut short")
def test_a_picture_cut_anywhere_is_refused(kind):
    """truncated JPEG → error, never a half-grey image."""
    payload = encode(RGB, kind)
    reader = codec()
    reader.decode(payload)
    for size in range(len(payload)):
        with pytest.raises(DecodeError):
            reader.decode(payload[:size])


NOISE = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
WAYS = [{}, {"quality": 95}, {"subsampling": 0}, {"optimize": True}, {"restart_marker_rows": 1}]


@pytest.mark.parametrize("options", WAYS, ids=str)
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.hostile("H2 a picture that is cut short")
def test_a_jpeg_cut_short_and_closed(mode, options):
    """As receivers of video over lossy links do: Pillow alone makes a half-grey picture of it."""
    payload = encode(Image.fromarray(NOISE).convert(mode), "JPEG", **options)
    work = {"width": 64, "height": 64, "mode": mode, "layout": "flat"}
    reader = codec(shape=("batch", 64 * 64 * len(mode)), **work)
    reader.decode(payload)
    start = payload.index(b"\xff\xda") + 40
    last_block = 400 if mode == "RGB" else 100  # a cut in there spoils this one block, unseen
    for size in range(start, len(payload) - last_block, 97):
        with pytest.raises(DecodeError, match="a part of its picture is missing"):
            reader.decode(payload[:size] + b"\xff\xd9")
    grey = np.asarray(Image.open(io.BytesIO(payload[:start] + b"\xff\xd9")))
    assert grey[-1, -1].max() == 128, "control: this is what would go to the model"


@pytest.mark.parametrize("options", [*WAYS, {"progressive": True}], ids=str)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_jpeg_that_is_really_grey(mode, options):
    picture = NOISE.copy()
    for rows in (64, 20, 1):
        picture[-rows:] = 128
        payload = encode(Image.fromarray(picture).convert(mode), "JPEG", **options)
        wanted = np.asarray(Image.open(io.BytesIO(payload)))
        work = {"width": 64, "height": 64, "mode": mode, "layout": "flat"}
        tensor = decode(payload, shape=("batch", 64 * 64 * len(mode)), **work)
        np.testing.assert_array_equal(tensor[0], wanted.reshape(-1))


@pytest.mark.hostile("H2 a picture that is cut short")
@pytest.mark.parametrize("rows", range(6))
def test_a_png_with_rows_missing_and_its_end_in_place(rows):
    """Pillow alone leaves them black."""
    lines = [b"\0" + line.tobytes() for line in RGB]
    whole = png(4, 6, 8, 2, zlib.compress(b"".join(lines)))
    np.testing.assert_array_equal(decode(whole)[0], RGB.transpose(2, 0, 1))
    with pytest.raises(DecodeError, match=r"rows are missing|truncated"):
        decode(png(4, 6, 8, 2, zlib.compress(b"".join(lines[:rows]))))


def test_a_png_that_is_really_black():
    assert not decode(encode(np.zeros((6, 4, 3), np.uint8))).any()


@pytest.mark.hostile("R2 an error says our words and the client's own values")
def test_an_error_names_no_object_of_ours():
    """Pillow's own words have the address of its file object in them."""
    broken = bytearray(encode(RGB))
    broken[16 + 13] ^= 1  # the header's checksum
    with pytest.raises(DecodeError, match="cannot identify image file") as caught:
        decode(bytes(broken))
    assert "0x" not in caught.value.message


@pytest.mark.hostile("R9 every list of a peer has caps of count and bytes")
def test_a_jpeg_of_endless_scans_is_refused_before_it_is_decoded():
    """Each takes 14 bytes and a walk through the whole picture."""
    payload = encode(RGB, "JPEG", progressive=True)
    last = payload[payload.rindex(b"\xff\xda") : -2]
    with pytest.raises(TooLargeError, match="a JPEG of 1000000 scans"):
        check_header(payload[:-2] + last * (1_000_000 - payload.count(b"\xff\xda")) + payload[-2:])
    assert decode(payload[:-2] + last * 20 + payload[-2:]).shape == (1, 3, 6, 4)


def test_a_jpeg_cut_after_its_thumbnail_is_refused():
    thumbnail = encode(RGB, "JPEG")
    payload = encode(RGB, "JPEG")
    embedded = payload[:2] + b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    whole = embedded + payload[2:]
    codec().decode(whole)
    with pytest.raises(DecodeError, match="cut short"):
        codec().decode(whole[:-2])


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "WEBP"])
@pytest.mark.hostile("R38 PNG and JPEG only, capped from the header")
def test_other_formats_are_refused(kind):
    with pytest.raises(DecodeError, match="expected a PNG or JPEG"):
        decode(encode(RGB, kind))


def png_header(width, height, bits=8):
    body = struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0)
    chunk = b"IHDR" + body
    return (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    )


def jpeg_header(width, height):
    frame = struct.pack(">BHHB", 8, height, width, 3) + b"\1\x22\0\2\x11\1\3\x11\1"
    return b"\xff\xd8\xff\xc0" + struct.pack(">H", len(frame) + 2) + frame


@pytest.mark.parametrize("payload", [png_header(65500, 65500), jpeg_header(65500, 65500)])
@pytest.mark.hostile(
    "H1 a JPEG of 65,500 x 65,500 by its header", "R38 PNG and JPEG only, capped from the header"
)
def test_bombs_are_refused_from_the_header(payload):
    """JPEG claiming 65,500 x 65,500 → refused from the header."""
    with pytest.raises(TooLargeError, match="65500x65500"):
        check_header(payload)


@pytest.mark.parametrize(
    "payload",
    [b"", b"x", b"\xff\xd8\xff", b"\xff\xd8\xff\xff\xff", png_header(0, 5), jpeg_header(0, 9)],
)
def test_bad_headers(payload):
    with pytest.raises(DecodeError):
        check_header(payload)


def test_too_many_bytes():
    with pytest.raises(TooLargeError):
        check_header(b"\xff\xd8\xff" + bytes(MAX_IMAGE_BYTES))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"shape": ("batch", 3, 5, 4)}, "4x6 in layout NCHW"),
        ({"shape": ("batch", 72)}, "layout NCHW"),
        ({"layout": "NHW", "shape": ("batch", 6, 4)}, "mode must be L"),
        ({"std": (1.0, 0.0, 1.0)}, "zero"),
        ({"mean": (1.0, 2.0)}, "2 values; expected 1 or 3"),
        ({"dtype": "uint8", "scale": 1 / 255}, "cannot hold"),
        ({"dtype": "int8"}, "cannot hold"),
        ({"dtype": "float16", "scale": 1e6}, "cannot hold"),
    ],
)
def test_what_cannot_fit_is_refused_at_check_time(kwargs, message):
    with pytest.raises(FieldError, match=message):
        codec(**kwargs)


def test_a_missing_pillow_is_said_at_check_time(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(FieldError, match=r"edged\[images\]"):
        codec()


SEEDS = [encode(RGB), encode(RGB, "JPEG"), encode(RGB, "JPEG", progressive=True)]


@given(st.sampled_from(SEEDS), st.data())
def test_damaged_pictures_raise_nothing_else(seed, data):
    payload = bytearray(seed)
    for _ in range(data.draw(st.integers(1, 6))):
        payload[data.draw(st.integers(2, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        tensor = decode(bytes(payload))
    except InvalidRequestError:
        return
    assert tensor.shape == (1, 3, 6, 4)


@given(st.binary(max_size=80), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"]))
def test_random_bytes_raise_nothing_else(payload, magic):
    with pytest.raises(InvalidRequestError):
        decode(magic + payload)
