"""What was given on the command line, as a recipe; the words themselves are test_flags.py's."""

import msgspec
import pytest

from converters.errors import ConversionError
from converters.flags import build_parser
from converters.given import complete, fields_from, parse_image, read_labels
from edged.specs import FeaturesInput, ImageInput

NEEDED = ["m.onnx", "-o", "o.edgb", "--name", "m", "--release", "2", "--samples", "s.npz"]


def parse(*words):
    args = build_parser().parse_args(["convert", *NEEDED, *words])
    return complete(fields_from(args), args.recipe)


def test_flags_fill_a_recipe(tmp_path):
    (tmp_path / "labels").write_text("cat\n\ndog\n")
    recipe = parse(
        *("--labels", f"@{tmp_path / 'labels'}", "--image", "8x4,mode=L,layout=flat,scale=0.5"),
        *("--output-name", "p,label", "--opset", "17", "--rtol", "0.01", "--activation", "softmax"),
    )
    assert recipe.labels == ("cat", "dog")
    assert recipe.output_names == ("p", "label")
    assert recipe.tolerance.rtol == 0.01
    assert recipe.tolerance.atol == 1e-5
    work = recipe.input_processing["*"]
    assert work == ImageInput(width=8, height=4, mode="L", layout="flat", scale=0.5)
    assert parse("--features", "a, b").input_processing["*"] == FeaturesInput(("a", "b"))


def test_free_axes_and_their_form():
    recipe = parse("--free-axes", "tokens:1=time, image:2=h,image:3=w")
    assert recipe.free_axes == {"tokens": {1: "time"}, "image": {2: "h", 3: "w"}}
    for word in ("tokens=time", "tokens:1", "tokens:one=time", ":1=time"):
        with pytest.raises(ConversionError, match="expected INPUT:AXIS=NAME"):
            parse("--free-axes", word)


def test_a_flag_wins_over_the_recipe_file(tmp_path):
    (tmp_path / "r.yaml").write_text(
        "name: other\nrelease: 1\nlabels: [a, b]\ntolerance: {rtol: 0.5}"
    )
    recipe = parse("--recipe", str(tmp_path / "r.yaml"), "--atol", "0.25")
    assert (recipe.name, recipe.release, recipe.labels) == ("m", 2, ("a", "b"))
    assert (recipe.tolerance.rtol, recipe.tolerance.atol) == (0.5, 0.25)


def test_a_floor_is_left_out_unless_it_is_given():
    assert parse("--floor", "2").floor == 2
    assert "floor" not in msgspec.to_builtins(parse()), "older recipes keep their digest"
    with pytest.raises(ConversionError, match="floor"):
        parse("--floor", "0")


def test_what_is_missing_is_named():
    args = build_parser().parse_args(["convert", "m.onnx", "-o", "o.edgb"])
    with pytest.raises(ConversionError, match=r"missing: --name, --release"):
        complete(fields_from(args), args.recipe)


@pytest.mark.parametrize("text", ["8", "8x", "8x8,mode", "8x8,scale=big", "8x8,mean=1/a/3"])
def test_a_malformed_picture_says_the_form(text):
    with pytest.raises(ConversionError, match="WIDTHxHEIGHT"):
        parse_image(text)


def test_malformed_flags():
    with pytest.raises(ConversionError, match="mode"):
        parse("--image", "8x8,mode=CMYK")
    with pytest.raises(ConversionError, match="exclude each other"):
        parse("--image", "8x8", "--features", "a")
    with pytest.raises(ConversionError, match="--labels"):
        read_labels("@/nonexistent")
    assert parse_image("8x8,mean=1/2/3")["mean"] == [1.0, 2.0, 3.0]


def test_a_precision_with_what_it_needs():
    recipe = parse(
        *("--precision", "int8", "--calibration", "c.npz"),
        *("--max-accuracy-drop", "0.25%", "--truth", "right"),
    )
    assert (recipe.precision, recipe.calibration, recipe.truth) == ("int8", "c.npz", "right")
    assert recipe.max_accuracy_drop == 0.0025
