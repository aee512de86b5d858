"""SavedModels, of Keras 3, Keras 2 and plain TensorFlow, and ``tf.Module`` from a factory."""

import pytest

import converters
from edged.errors import DeniedError
from tests.converters.sources.tensorflow_cases import MARKS

pytestmark = MARKS


@pytest.mark.parametrize(
    ("name", "inputs", "outputs"),
    [
        ("keras3", ["x float32[batch,8]"], ["output_0 float32[batch,3]"]),
        ("dict", ["x float32[batch,8]"], ["a float32[batch,3]", "b float32[batch,2]"]),
        ("keras2", ["x float32[batch,8]"], ["probabilities float32[batch,3]"]),
        ("module", ["x float32[batch,8]"], ["sum float32[batch]", "y float32[batch,3]"]),
        ("tf-module", ["x float32[batch,8]"], ["output float32[batch,3]"]),
        ("tf-plain", ["left float32[batch,4]", "right float32[batch,3]"],
         ["output_0 float32[batch,7]", "output_1 float32[batch,4]"]),
    ],
)  # fmt: skip
def test_converts(tensorflow_outcomes, name, inputs, outputs):
    got = tensorflow_outcomes[name]
    assert not got.error
    assert (got.inputs, got.outputs) == (inputs, outputs)
    assert got.max_abs < 1e-5


def test_what_was_repaired_is_said(tensorflow_outcomes):
    assert tensorflow_outcomes["keras2"].traps == ["keras-2"]
    assert tensorflow_outcomes["keras3"].traps == ["erfc"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("texts", 'input "word" holds text'),
        ("four", 'input "x" has its batch axis frozen at 4'),
        ("layer-table", '" looks up in a table (StringLookup, IntegerLookup, tf.lookup)'),
        ("layer-table-off", "the converted graph takes edged_in0, "),
        ("plain-table", "the model looks up in a table (StringLookup, IntegerLookup, tf.lookup)"),
        ("tf-svd", 'does not compute: Svd (at "'),
    ],
)
def test_refused_by_name(tensorflow_outcomes, name, words):
    assert words in tensorflow_outcomes[name].error
    assert tensorflow_outcomes[name].kind == "UnsupportedModelError"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nothing", '"nothing" is not a SavedModel that TensorFlow'),
        ("tf-number", "gave a int, which cannot be called"),
    ],
)
def test_what_cannot_be_loaded(tensorflow_outcomes, name, words):
    assert words in tensorflow_outcomes[name].error
    assert tensorflow_outcomes[name].kind == "ConversionError"


def test_a_folder_needs_trust(tensorflow_folder, tmp_path):
    recipe = converters.Recipe(
        source=str(tensorflow_folder / "keras3"),
        samples=str(tensorflow_folder / "x.npz"),
        name="net",
        release=1,
    )
    with pytest.raises(DeniedError, match="a SavedModel is a program"):
        converters.convert(recipe, tmp_path / "net.edgb")
