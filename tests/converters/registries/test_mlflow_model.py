"""MLmodel read as data: every flavor's file, and every way in which a folder may be wrong."""

import zipfile

import numpy as np
import pytest

from converters.errors import ConversionError, UnsupportedModelError
from converters.registries.mlflow_model import resolve_folder


def test_onnx_with_its_example(mlmodel, place):
    found = resolve_folder(mlmodel(), place)
    assert found.fields["source"].endswith("model/model.onnx")
    samples = np.load(found.fields["samples"])
    assert (samples.shape, samples.dtype) == ((5, 3), np.float32)
    assert found.examples
    assert found.origin == {
        "tool": "mlflow", "flavor": "onnx", "mlflow_version": "3.17.2", "run_id": "a" * 32
    }  # fmt: skip


def torch_zip(path, names):
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"")


SAVED = ["model/saved_model.pb", "model/variables/variables.index"]


@pytest.mark.parametrize(
    ("flavor", "block", "files", "source"),
    [
        ("sklearn", {"pickled_model": "model.pkl"}, ["model.pkl"], "model.pkl"),
        (
            "sklearn",
            {"pickled_model": "model.skops", "serialization_format": "skops"},
            ["model.skops"],
            "model.skops",
        ),
        ("pytorch", {"model_data": "data"}, ["data/model.pt2"], "data/model.pt2"),
        ("pytorch", {"model_data": "data"}, ["data/model.pth"], "data/model.pth"),
        ("keras", {"data": "data"}, ["data/model.keras"], "data/model.keras"),
        ("keras", {"data": "data"}, [f"data/{name}" for name in SAVED], "data/model"),
        # The block says tf, the disk says .keras: the disk is right.
        (
            "tensorflow",
            {"model_type": "keras", "data": "data", "save_format": "tf"},
            ["data/model.keras"],
            "data/model.keras",
        ),
        ("tensorflow", {"data": "data"}, ["data/model.h5"], "data/model.h5"),
        (
            "tensorflow",
            {"model_type": "tf2-module", "saved_model_dir": "tf2model"},
            ["tf2model/saved_model.pb"],
            "tf2model",
        ),
        ("xgboost", {"data": "model.ubj"}, ["model.ubj"], "model.ubj"),
        ("xgboost", {"data": "model.xgb"}, ["model.xgb"], "model.ubj"),
        # The block says skops, the file is LightGBM's text.
        (
            "lightgbm",
            {"data": "model.lgb", "serialization_format": "skops"},
            ["model.lgb"],
            "model.lgb",
        ),
        ("lightgbm", {"data": "model.skops"}, ["model.skops"], "model.skops"),
        ("catboost", {"data": "model.cb", "save_format": "cbm"}, ["model.cb"], "model.cbm"),
    ],
)
def test_the_file_of_each_flavor(mlmodel, place, flavor, block, files, source):
    folder = mlmodel(flavors={"python_function": {"predict_fn": "predict"}, flavor: block})
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"content")
    found = resolve_folder(folder, place)
    assert found.origin["flavor"] == flavor
    assert found.fields["source"] in (str(folder / source), str(place.folder / source))


def test_torchscript_is_told_from_a_pickled_module(mlmodel, place):
    folder = mlmodel(flavors={"pytorch": {"model_data": "data"}})
    torch_zip(folder / "data" / "model.pth", ["model/code/net.py", "model/constants.pkl"])
    found = resolve_folder(folder, place)
    assert found.fields["source"].endswith("model.pt")
    assert any("TorchScript" in note for note in found.notes)
    (folder / "data" / "model.pth").unlink()
    torch_zip(folder / "data" / "model.pth", ["model/data.pkl", "model/data/0"])
    assert resolve_folder(folder, place).fields["source"].endswith("model.pth")


def test_what_differs_is_noted(mlmodel, place):
    folder = mlmodel(
        flavors={
            "sklearn": {"pickled_model": "model.pkl", "sklearn_version": "0.1", "code": "code"},
            "python_function": {"predict_fn": "predict_proba"},
        }
    )
    (folder / "model.pkl").write_bytes(b"x")
    notes = " ".join(resolve_folder(folder, place).notes)
    assert "saved with scikit-learn 0.1;" in notes
    assert "by predict_proba" in notes
    assert "code of its own" in notes


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"flavors": {"onnx": {"data": "../secret.onnx"}}}, "leaves the folder"),
        ({"flavors": {"onnx": {"data": "/etc/passwd"}}}, "not a path inside"),
        ({"flavors": {"onnx": {"data": "none.onnx"}}}, "No such file"),
        ({"flavors": {"onnx": {"data": ["model.onnx"]}}}, "expected a text"),
        ({"flavors": {"onnx": "model.onnx"}}, "expected a mapping"),
        ({"flavors": ["onnx"]}, "expected a mapping"),
        ({"flavors": {}}, "has no flavor"),
        ({"flavors": {"transformers": {}, "python_function": {}}}, "flavor transformers cannot"),
        ({"flavors": {"keras": {"data": "data"}}}, "neither model.keras"),
        ({"flavors": {"catboost": {"data": "m", "save_format": "json"}}}, "saved as json"),
        ({"mlflow_version": "99.0"}, "written by MLflow 99.0"),
        ({"mlflow_version": "new"}, "not a version"),
        ({"signature": {"inputs": "[{"}}, "signature.inputs: not JSON"),
        ({"signature": {"inputs": '{"a": 1}'}}, "expected a list"),
        ({"saved_input_example_info": {"artifact_path": "../x"}}, "leaves the folder"),
        (
            {"saved_input_example_info": {"artifact_path": "MLmodel", "type": "ndarray"}},
            "not JSON",
        ),
    ],
)
def test_a_wrong_folder_is_told_in_a_sentence(mlmodel, place, changes, words):
    folder = mlmodel(**changes)
    (folder / "data").mkdir()
    with pytest.raises(ConversionError, match=words):
        resolve_folder(folder, place)


def test_python_code_is_refused_by_name_and_says_what_to_do(mlmodel, place):
    code = {"python_function": {"model_code_path": "/home/someone/train/scorer.py",
                                "artifacts": {"net": {"path": "artifacts/net.onnx"}}}}  # fmt: skip
    with pytest.raises(UnsupportedModelError) as caught:
        resolve_folder(mlmodel(flavors=code), place)
    assert '"scorer.py"' in caught.value.message
    assert "artifacts: net" in caught.value.message
    assert "/home/someone" not in caught.value.message


def test_the_weights_may_not_be_a_link(mlmodel, place, tmp_path):
    folder = mlmodel()
    (folder / "model.onnx").rename(tmp_path / "elsewhere.onnx")
    (folder / "model.onnx").symlink_to(tmp_path / "elsewhere.onnx")
    with pytest.raises(ConversionError, match="symbolic link"):
        resolve_folder(folder, place)
