"""Keras: what works, what is repaired and said, what is refused by name."""

import json
import zipfile

import pytest

import converters
from converters.errors import ConversionError, UnsupportedModelError
from tests.converters.sources.tensorflow_cases import MARKS

pytestmark = MARKS


@pytest.mark.parametrize(
    ("name", "inputs", "outputs"),
    [
        ("image", ["image float32[batch,8,8,1]"], ["probabilities float32[batch,10]"]),
        ("row", ["row float32[batch,64]"],
         ["embedding float32[batch,8]", "score float32[batch,3]"]),
        ("two", ["left float32[batch,4]", "right float32[batch,3]"], ["y float32[batch,2]"]),
        ("rnn", ["tokens float32[batch,tokens_1,4]"], ["gru float32[batch,3]"]),
        ("attention", ["tokens float32[batch,tokens_1,4]"],
         ["multi_head_attention float32[batch,tokens_1,4]"]),
        ("masked", ["ids int32[batch,6]"], ["lstm_1 float32[batch,4]"]),
        ("resize", ["image float32[batch,8,8,1]"], ["conv2d_transpose float32[batch,13,13,2]"]),
        ("h5", ["x float32[batch,8]"], ["y float32[batch,3]"]),
        ("keras2-h5", ["x float32[batch,8]"], ["probabilities float32[batch,3]"]),
        ("factory", ["x float32[batch,8]"], ["y float32[batch,3]"]),
        ("lambda", ["x float32[batch,8]"], ["y float32[batch,8]"]),  # code that was trusted
    ],
)  # fmt: skip
def test_converts(tensorflow_outcomes, name, inputs, outputs):
    got = tensorflow_outcomes[name]
    assert not got.error
    assert (got.inputs, got.outputs) == (inputs, outputs)
    assert got.max_abs < 1e-5
    assert got.opset == 18


def test_half_precision_needs_a_wider_tolerance(tensorflow_outcomes):
    assert not tensorflow_outcomes["mixed"].error
    assert 1e-5 < tensorflow_outcomes["mixed"].max_abs < 1e-2


def test_what_was_repaired_is_said(tensorflow_outcomes):
    assert tensorflow_outcomes["image"].traps == ["augmentation-layers", "erfc"]
    assert tensorflow_outcomes["row"].traps == ["erfc", "captured-inputs"]
    assert tensorflow_outcomes["rnn"].traps == ["counted-axes"]
    assert not tensorflow_outcomes["two"].traps


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gelu-off", 'does not compute: Erfc (at "'),
        ("gelu-ungated", "does not load the converted model"),
        ("augmentation-off", "StatelessRandomUniformV2"),
        ("captured-off", "the converted model has 3 inputs ("),
        ("text-off", 'input "word" takes strings, the samples hold float32'),
    ],
)
def test_without_the_remedy_the_gate_closes(tensorflow_outcomes, name, words):
    """Each of these "succeeds" with the stock exporters."""
    assert words in tensorflow_outcomes[name].error


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("code", "code (a Lambda layer), which is not run"),
        ("code-h5", "code (a Lambda layer), which is not run"),
        ("text", 'input "word" holds text'),
        ("vectors", 'input "word" holds text'),
        ("lookup", '"integer_lookup_1" looks up in a table'),
        ("numbers", '"string_lookup'),
        ("fixed", 'input "row" has its batch axis frozen at 4'),
    ],
)
def test_refused_by_name(tensorflow_outcomes, name, words):
    assert words in tensorflow_outcomes[name].error
    assert tensorflow_outcomes[name].kind == "UnsupportedModelError"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("two-row", "takes the inputs left, right"),
        ("opset", "opset 18 at most"),
        ("untrained", "proves nothing"),
        ("same", "proves nothing"),  # the sample really reaches the model
        ("shape", "the model itself fails on the samples (rows of image [64])"),
        ("broken-h5", "is not an HDF5 model"),
        ("weights-h5", "holds weights alone: give module:factory and --weights"),
    ],
)
def test_what_does_not_fit(tensorflow_outcomes, name, words):
    assert words in tensorflow_outcomes[name].error
    assert tensorflow_outcomes[name].kind in ("ConversionError", "ParityError")


@pytest.mark.hostile("R21 foreign models run in a throw-away process")
def test_hidden_code_in_an_hdf5_file_is_found_before_keras_reads_it(tensorflow_folder, tmp_path):
    """``Lambda`` spelled so that no search for the word finds it."""
    import h5py

    path = tmp_path / "hidden.h5"
    path.write_bytes((tensorflow_folder / "code.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        text = json.dumps(json.loads(file.attrs["model_config"]))
        file.attrs["model_config"] = text.replace('"Lambda"', '"\\u004cambda"')
    recipe = converters.Recipe(
        source=str(path), samples=str(tensorflow_folder / "row.npz"), name="net", release=1
    )
    with pytest.raises(UnsupportedModelError, match="Lambda layer"):
        converters.convert(recipe, tmp_path / "net.edgb")
    assert not (tmp_path / "net.edgb").exists()


@pytest.mark.hostile("R21 foreign models run in a throw-away process")
def test_a_vocabulary_that_is_a_file_of_this_machine_is_not_read(tensorflow_folder, tmp_path):
    """It would carry the file's lines into the model; it is no Lambda layer, and not called one."""
    path = tmp_path / "lines.keras"
    with (
        zipfile.ZipFile(tensorflow_folder / "image.keras") as good,
        zipfile.ZipFile(path, "w") as bad,
    ):
        for name in good.namelist():
            data = good.read(name)
            if name == "config.json":
                config = json.loads(data)
                layer = {"vocabulary": "/etc/passwd", "name": "lines"}
                config["config"]["layers"].append(
                    {"module": "keras.layers", "class_name": "StringLookup", "config": layer}
                )
                data = json.dumps(config).encode()
            bad.writestr(name, data)
    recipe = converters.Recipe(
        source=str(path), samples=str(tensorflow_folder / "image.npz"), name="net", release=1
    )
    with pytest.raises(ConversionError) as told:
        converters.convert(recipe, tmp_path / "net.edgb")
    assert "Lambda" not in told.value.message
    assert "root:" not in told.value.message


def test_a_cut_file_is_told_and_leaves_nothing(tensorflow_folder, tmp_path):
    data = (tensorflow_folder / "image.keras").read_bytes()
    (tmp_path / "cut.keras").write_bytes(data[:-30])
    recipe = converters.Recipe(
        source=str(tmp_path / "cut.keras"),
        samples=str(tensorflow_folder / "image.npz"),
        name="net",
        release=1,
    )
    with pytest.raises(ConversionError, match="cut short"):
        converters.convert(recipe, tmp_path / "net.edgb")
    assert [path.name for path in tmp_path.iterdir()] == ["cut.keras"]
