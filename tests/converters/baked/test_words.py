import pytest

from converters.baked.words import Bake, Resize, check_words
from converters.errors import ConversionError
from converters.recipe import make_recipe

SHAPE = (5, 20, 16, 3)
FIELDS = {"source": "m.onnx", "samples": "s.npz", "name": "m", "release": 1}


def test_words_that_fit_pass_and_are_told():
    work = Bake(
        resize=Resize(height=8, width=6, antialias=True),
        scale="1/255",
        mean=(0.5, 0.4, 0.3),
        std=(0.2,),
    )
    check_words("image", work, SHAPE)
    assert work.factor == 1 / 255
    assert work.told() == (
        "uint8 NHWC to float32, resize to 8x6 (bilinear, half-pixel, antialiased), times 1/255, "
        "minus 0.5/0.4/0.3, divided by 0.2, to NCHW"
    )
    assert Bake(std=(1.0,), mean=(0.0,)).told() == "uint8 NHWC to float32, to NCHW"


@pytest.mark.parametrize(
    ("work", "shape", "words"),
    [
        (Bake(), (5, 64), r"2 axes \[5, 64\]; expected 4, NHWC"),
        (Bake(mean=(1.0, 2.0)), SHAPE, "mean has 2 values; expected 1, or 3"),
        (Bake(std=(1.0,) * 4), SHAPE, "std has 4 values"),
        (Bake(layout="NCHW", mean=(1.0,) * 3), SHAPE, "expected 1, or 20 as the samples"),
        (Bake(std=(1.0, 0.0, 1.0)), SHAPE, "std holds a zero"),
        (Bake(std=(float("nan"),)), SHAPE, "std holds a value that is not finite"),
        (Bake(scale=0.0), SHAPE, "scale is 0.0; expected a number other than zero"),
        (Bake(scale=float("inf")), SHAPE, "scale is inf"),
        (Bake(scale="1/0"), SHAPE, "scale is 1/0"),
    ],
)
def test_words_that_make_no_sense_are_refused(work, shape, words):
    with pytest.raises(ConversionError, match=words):
        check_words("image", work, shape)


@pytest.mark.parametrize(
    "fields",
    [
        {"colour": "BGR"},
        {"resize": {"height": 8, "width": 6, "mode": "nearest"}},
        {"resize": {"height": 0, "width": 6}},
        {"resize": {"height": 8, "width": 6, "crop": True}},
        {"scale": "one"},
        {"scale": "1/255; x"},
        {"dtype": "int64"},
        {"layout": "HWC"},
    ],
)
def test_an_unknown_field_or_value_is_named(fields):
    with pytest.raises(ConversionError, match=r"`\$\.bake\[...\]|unknown field `colour`"):
        make_recipe({**FIELDS, "bake": {"*": fields}})
