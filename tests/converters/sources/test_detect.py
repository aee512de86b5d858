import os
import pickle
import re
import zipfile

import pytest

from converters.errors import ConversionError, UnsupportedModelError
from converters.recipe import Recipe
from converters.sources.detect import detect


class Canary:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def recipe(source, **fields):
    return Recipe(source=str(source), samples="s.npz", name="m", release=1, **fields)


@pytest.mark.parametrize(
    ("name", "framework", "asks_for_trust"),
    [
        ("m.joblib", "sklearn", True),
        ("m.pkl", "sklearn", True),
        ("m.ONNX", "onnx", False),
        ("m.ubj", "xgboost", False),
        ("m.cbm", "catboost", False),
    ],
)
def test_by_name(tmp_path, name, framework, asks_for_trust):
    (tmp_path / name).write_bytes(b"never parsed")
    found = detect(recipe(tmp_path / name))
    assert (found.framework, bool(found.runs_code)) == (framework, asks_for_trust)


def test_by_content_and_by_word(tmp_path):
    (tmp_path / "model").write_bytes(b"\x80\x04\x95rest")
    assert detect(recipe(tmp_path / "model")).framework == "sklearn"
    with zipfile.ZipFile(tmp_path / "zipped", "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", "")
    with pytest.raises(UnsupportedModelError, match="rename it"):
        detect(recipe(tmp_path / "zipped"))  # Keras goes by the ending
    with zipfile.ZipFile(tmp_path / "archive", "w") as archive:
        archive.writestr("net/archive_format", "pt2")
    assert detect(recipe(tmp_path / "archive")).framework == "torch"
    (tmp_path / "raw").write_bytes(b"?")
    assert detect(recipe(tmp_path / "raw", kind="onnx")).framework == "onnx"


@pytest.mark.parametrize(
    ("content", "framework"),
    [
        (b'{"learner":{"attributes":{}', "xgboost"),
        (b'{\n  "learner": {', "xgboost"),
        (b"{L\0\0\0\0\0\0\0\x07learner{L", "xgboost"),
        (b"tree\nversion=v4\nnum_class=1", "lightgbm"),
        (b"CBM1\xb0t\0\0", "catboost"),
    ],
)
@pytest.mark.parametrize("name", ["m.json", "m.txt", "m.bin", "m"])
def test_boosters_by_content_need_no_trust(tmp_path, content, framework, name):
    (tmp_path / name).write_bytes(content)
    found = detect(recipe(tmp_path / name))
    assert (found.framework, found.runs_code) == (framework, "")


@pytest.mark.parametrize("name", ["m.ubj", "m.json", "m.txt", "m.cbm", "m"])
def test_a_pickle_by_another_name_is_still_a_program(tmp_path, name):
    (tmp_path / name).write_bytes(pickle.dumps(Canary(tmp_path / "canary")))
    assert detect(recipe(tmp_path / name)).runs_code
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    ("name", "words"), [("m.json", "not an XGBoost"), ("m.txt", "not a LightGBM")]
)
def test_text_of_other_kinds_says_what_was_expected(tmp_path, name, words):
    (tmp_path / name).write_text('{"format": "layers-model"}')
    with pytest.raises(UnsupportedModelError, match=words):
        detect(recipe(tmp_path / name))


def test_a_factory_asks_for_trust_and_its_imports_are_read_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert detect(recipe("net:build")).framework == "torch"
    assert detect(recipe("net:build")).runs_code
    (tmp_path / "net.py").write_text("import torch.nn\nopen('canary', 'w')")
    assert detect(recipe("net:build")).framework == "torch"
    assert not (tmp_path / "canary").exists()


def test_content_speaks_before_the_ending(tmp_path):
    (tmp_path / "m.onnx").write_bytes(pickle.dumps(Canary(tmp_path / "canary")))
    found = detect(recipe(tmp_path / "m.onnx"))
    assert found.runs_code
    assert not (tmp_path / "canary").exists()


def test_a_kind_that_does_not_exist(tmp_path):
    with pytest.raises(ConversionError, match="there are lightning, torchscript, torch"):
        detect(recipe(tmp_path, kind="caffe"))


def test_refusals_say_what_to_do(tmp_path):
    with pytest.raises(ConversionError, match="module:factory"):
        detect(recipe(tmp_path / "none.onnx"))
    with pytest.raises(UnsupportedModelError, match="folder"):
        detect(recipe(tmp_path))
    (tmp_path / "m.safetensors").write_bytes(b"")
    with pytest.raises(UnsupportedModelError, match="--weights"):
        detect(recipe(tmp_path / "m.safetensors"))


def zipped(path, *names, pickled=b""):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(f"net/{name}", pickled)
    return path


def folder(path):
    path.mkdir()
    (path / "saved_model.pb").touch()
    return path


HDF5 = b"\x89HDF\r\n\x1a\n"


@pytest.mark.parametrize(
    ("make", "framework", "asks_for_trust"),
    [
        (
            lambda p: zipped(p / "m", "constants.pkl", "code/net.py", "data.pkl"),
            "torchscript",
            True,
        ),
        (lambda p: folder(p / "saved"), "tensorflow", True),
        (lambda p: p / "m.h5", "keras", False),
        (lambda p: p / "m", "tflite", False),
        (lambda p: zipped(p / "m", "data.pkl", pickled=pickle.dumps(Canary(p), 2)), "torch", True),
    ],
)
def test_every_kind_by_its_content(tmp_path, make, framework, asks_for_trust):
    (tmp_path / "m.h5").write_bytes(HDF5)
    (tmp_path / "m").write_bytes(b"\x1c\0\0\0TFL3")
    found = detect(recipe(make(tmp_path)))
    assert (found.framework, bool(found.runs_code)) == (framework, asks_for_trust)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("m.keras", HDF5, "rename it to end in .h5"),
        ("m.pt", b"hello", "nothing that PyTorch wrote"),
        ("m.keras", b"hello", "nothing that Keras wrote"),
        ("m.h5", b"hello", "nothing that Keras wrote"),
        ("m.tflite", b"hello", "not TFLite's"),
        ("m.keras", b"PK\x03\x04", "cut short"),
        ("m.ckpt", b"hello", "not a Lightning checkpoint"),
        ("m.pt", pickle.dumps({"_a": 1}, 2), "estimator"),
    ],
)
def test_renamed_and_broken_files_are_told(tmp_path, name, data, words):
    (tmp_path / name).write_bytes(data)
    if words == "estimator":
        assert detect(recipe(tmp_path / name)).framework == "sklearn"
        return
    with pytest.raises(ConversionError, match=re.escape(words)):
        detect(recipe(tmp_path / name))


@pytest.mark.parametrize(
    ("text", "framework"),
    [
        ("import lightning as L\nimport torch", "lightning"),
        ("from flax import nnx", "jax"),
        ("import tensorflow as tf\nfrom tensorflow import keras", "tensorflow"),
        ("import keras", "keras"),
        ("def f(:", "torch"),
    ],
)
def test_a_factorys_framework_is_read_from_its_imports(tmp_path, monkeypatch, text, framework):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(text)
    assert detect(recipe("net:build")).framework == framework


def test_a_checkpoint_tells_that_its_class_is_lightnings(tmp_path):
    path = zipped(
        tmp_path / "m", "data.pkl", pickled=pickle.dumps({"pytorch-lightning_version": "2"}, 2)
    )
    assert detect(recipe("net:Net", weights=str(path))).framework == "lightning"
    with pytest.raises(UnsupportedModelError, match="module:Class"):
        detect(recipe(path))
