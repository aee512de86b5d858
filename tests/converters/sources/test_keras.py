"""Keras, through the real throw-away process; skipped by name where it is not installed."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

import converters
from converters.errors import ConversionError, UnsupportedModelError

pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.skipif(
        importlib.util.find_spec("tensorflow") is None
        or importlib.util.find_spec("tf2onnx") is None,
        reason="tensorflow or tf2onnx is not installed on this Python",
    ),
]

SAVE = """
import keras, numpy as np
from keras import layers as L

keras.utils.set_random_seed(1)
rows = np.random.default_rng(0).normal(size=(30, 8, 8, 1)).astype("f4")
np.savez("image.npz", image=rows)
np.savez("row.npz", row=rows.reshape(30, 64) * 3 + 1)
np.savez("two.npz", left=rows.reshape(30, 64)[:, :4], right=rows.reshape(30, 64)[:, 4:7])
keras.Sequential([
    keras.Input((8, 8, 1), name="image"), L.RandomRotation(0.1),
    L.Conv2D(4, 3, activation="gelu"), L.BatchNormalization(), L.Flatten(), L.Dropout(0.3),
    L.Dense(10, activation="softmax", name="probabilities"),
]).save("image.keras")
normal = L.Normalization()
normal.adapt(rows.reshape(30, 64) * 3 + 1)
row = keras.Input((64,), name="row")
hidden = L.Dense(8, activation="gelu")(normal(row))
keras.Model(row, {"score": L.Dense(3)(hidden), "embedding": hidden}).save("row.keras")
left, right = keras.Input((4,), name="left"), keras.Input((3,), name="right")
keras.Model({"right": right, "left": left}, L.Dense(2, name="y")(L.concatenate([left, right]))).save("two.keras")
keras.Model(row, L.Lambda(lambda x: x * 2)(row)).save("code.keras")
fixed = keras.Input(batch_shape=(4, 64), name="row")
keras.Model(fixed, L.Dense(2)(fixed)).save("fixed.keras")
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    done = subprocess.run(
        [sys.executable, "-c", SAVE], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def convert(models, tmp_path):
    def call(name, samples=None, **fields):
        recipe = converters.Recipe(
            source=str(models / f"{name}.keras"),
            samples=str(models / f"{samples or name}.npz"),
            name="net",
            release=1,
            **fields,
        )
        return converters.convert(recipe, tmp_path / "net.edgb").manifest

    return call


def signature(manifest):
    entries = (*manifest.inputs, *manifest.outputs)
    return [f"{entry.name} {entry.spec()}" for entry in entries]


def test_gelu_and_augmentation_layers(convert):
    assert signature(convert("image")) == [
        "image float32[batch,8,8,1]",
        "probabilities float32[batch,10]",
    ]


def test_normalization_stays_inside_and_outputs_keep_their_names(convert):
    assert signature(convert("row")) == [
        "row float32[batch,64]",
        "embedding float32[batch,8]",
        "score float32[batch,3]",
    ]


def test_inputs_are_matched_by_name(convert):
    assert sorted(signature(convert("two"))) == [
        "left float32[batch,4]",
        "right float32[batch,3]",
        "y float32[batch,2]",
    ]
    with pytest.raises(ConversionError, match="takes the inputs left, right"):
        convert("two", samples="row")


def test_refusals(convert, models):
    with pytest.raises(UnsupportedModelError, match="Lambda"):
        convert("code", samples="row")
    with pytest.raises(UnsupportedModelError, match='input "row" has its batch axis frozen at 4'):
        convert("fixed", samples="row")
    with pytest.raises(ConversionError, match="opset 18 at most"):
        convert("row", opset=20)
    (models / "broken.keras").write_bytes(b"PK\x03\x04")
    with pytest.raises(ConversionError, match=r"not a \.keras file"):
        convert("broken", samples="row")


def test_the_sample_really_reaches_the_model(convert, models):
    np.savez(models / "same.npz", row=np.ones((5, 64)))
    with pytest.raises(converters.ParityError, match="proves nothing"):
        convert("row", samples="same")
