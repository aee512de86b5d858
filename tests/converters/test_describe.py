import pytest

from converters.describe import check_input, describe_processing, image_shape
from converters.errors import ConversionError
from converters.recipe import Recipe
from converters.sources.base import SourceResult
from edged.manifest import TensorEntry
from edged.specs import FeaturesInput, ImageInput, WordColumn

ROW = TensorEntry("x", "float32", ("batch", 3))
SCORES = TensorEntry("p", "float32", ("batch", 2))


def recipe(**fields):
    return Recipe(source="m", samples="s", name="m", release=1, **fields)


def test_what_the_framework_knows_is_filled_in():
    result = SourceResult(labels=("no", "yes"), columns=("a", "b", "c"))
    works, outputs = describe_processing(recipe(), [ROW], [SCORES], result, ())
    assert works == {"x": FeaturesInput(("a", "b", "c"))}
    assert outputs["p"].labels == ("no", "yes")


def test_columns_are_told_in_the_order_in_which_the_framework_takes_them():
    """Else a device's c would be the model's a: the source has put the table in its own order."""
    mine = recipe(input_processing={"*": FeaturesInput(("c", "b", "a"))})
    result = SourceResult(columns=("a", "b", "c"))
    assert describe_processing(mine, [ROW], [SCORES], result, ())[0]["x"].names == ("a", "b", "c")
    other = SourceResult(columns=("p", "q", "r"))
    assert describe_processing(mine, [ROW], [SCORES], other, ())[0]["x"].names == ("c", "b", "a")


def test_words_go_with_their_columns_whatever_order_the_recipe_has_them_in():
    color = WordColumn(("blue", "red"))
    result = SourceResult(columns=("a", "b", "c"), words={1: color})
    works, _ = describe_processing(recipe(), [ROW], [SCORES], result, ())
    assert works == {"x": FeaturesInput(("a", "b", "c"), {"b": color})}
    mine = recipe(input_processing={"*": FeaturesInput(("c", "b", "a"))})
    assert describe_processing(mine, [ROW], [SCORES], result, ())[0] == works
    bare = SourceResult(words={0: color})  # fitted on an array: the samples' order is the model's
    works, _ = describe_processing(mine, [ROW], [SCORES], bare, ("c", "b", "a"))
    assert works == {"x": FeaturesInput(("c", "b", "a"), {"c": color})}
    with pytest.raises(ConversionError, match="words for columns that it does not have"):
        describe_processing(mine, [ROW], [SCORES], SourceResult(words={3: color}), ())
    with pytest.raises(ConversionError, match="holds words, and its columns have no names"):
        describe_processing(recipe(), [ROW], [SCORES], bare, ())


def test_the_recipe_comes_first_and_must_fit():
    mine = recipe(labels=("low", "high"), input_processing={"*": FeaturesInput(("c", "b", "a"))})
    works, outputs = describe_processing(mine, [ROW], [SCORES], SourceResult(labels=("0", "1")), ())
    assert works["x"].names == ("c", "b", "a")
    assert outputs["p"].labels == ("low", "high")
    with pytest.raises(ConversionError, match="3 labels do not fit"):
        describe_processing(recipe(labels=("a", "b", "c")), [ROW], [SCORES], SourceResult(), ())
    wrong = recipe(input_processing={"z": FeaturesInput(("a", "b", "c"))})
    with pytest.raises(ConversionError, match=r'"z" is not an input \(x\)'):
        describe_processing(wrong, [ROW], [SCORES], SourceResult(), ())
    with pytest.raises(ConversionError, match="has 2 inputs"):
        describe_processing(mine, [ROW, SCORES], [SCORES], SourceResult(), ())


@pytest.mark.parametrize(
    ("layout", "mode", "shape"),
    [
        ("NCHW", "RGB", (3, 4, 8)),
        ("NHWC", "BGR", (4, 8, 3)),
        ("NHW", "L", (4, 8)),
        ("flat", "L", (32,)),
    ],
)
def test_pictures_must_give_the_tensor(layout, mode, shape):
    work = ImageInput(width=8, height=4, mode=mode, layout=layout)
    assert image_shape(work) == shape
    check_input(work, TensorEntry("x", "float32", ("batch", *shape)))
    check_input(work, TensorEntry("x", "float32", ("batch", *shape[:-1], "free")))
    with pytest.raises(ConversionError, match="the picture would give"):
        check_input(work, TensorEntry("x", "float32", ("batch", *shape, 1)))


def test_pictures_that_contradict_themselves():
    with pytest.raises(ConversionError, match="mode must be L"):
        image_shape(ImageInput(width=8, height=4, mode="RGB", layout="NHW"))
    with pytest.raises(ConversionError, match="mean needs one value"):
        image_shape(ImageInput(width=8, height=4, mode="RGB", mean=(1.0, 2.0)))
