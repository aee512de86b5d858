"""BentoML's folders read as data: every module's file, tags, Bentos, and what is refused."""

import io
import tarfile
import zipfile

import pytest
import yaml

from converters.errors import ConversionError, UnsupportedModelError
from converters.registries import bentoml
from converters.registries.resolved import Place
from edged.errors import NotFoundError


@pytest.fixture
def place(tmp_path):
    (tmp_path / "place").mkdir()
    return Place(tmp_path / "place", store=str(tmp_path / "bentoml"))


@pytest.mark.parametrize(
    ("module", "file", "source"),
    [
        ("bentoml.sklearn", "saved_model.pkl", "saved_model.pkl"),
        ("bentoml.pytorch", "saved_model.pt", "saved_model.pth"),
        ("bentoml.onnx", "saved_model.onnx", "saved_model.onnx"),
        ("bentoml.keras", "saved_model.keras", "saved_model.keras"),
        ("bentoml.keras", "saved_model.h5", "saved_model.h5"),
        ("bentoml.tensorflow", "saved_model.pb", "saved_model"),
        ("bentoml.xgboost", "saved_model.ubj", "saved_model.ubj"),
        ("bentoml.lightgbm", "saved_model.ubj", "saved_model.lgb"),
        ("bentoml.catboost", "saved_model.cbm", "saved_model.cbm"),
        ("bentoml.picklable_model", "saved_model.pkl", "saved_model.pkl"),
        ("", "net.onnx", "net.onnx"),
    ],
)
def test_the_file_of_each_module(bento_model, place, module, file, source):
    folder = bento_model(module, {file: b"content"})
    found = bentoml.resolve_tag("bentoml:/scorer", place)
    assert found.fields["source"] in (str(folder / source), str(place.folder / source))
    assert (found.fields["name"], found.fields["version"]) == ("scorer", "abc")
    assert found.origin == {
        "tool": "bentoml", "tag": "scorer:abc", "module": module, "bentoml_version": "1.4.39"
    }  # fmt: skip


def test_torchscript_keeps_its_ending(bento_model, place):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("saved_model/code/net.py", b"")
        archive.writestr("saved_model/constants.pkl", b"")
    folder = bento_model("bentoml.torchscript", {"saved_model.pt": data.getvalue()})
    assert bentoml.resolve_model(folder, place).fields["source"] == str(folder / "saved_model.pt")


def test_an_unpacked_keras_file_is_packed_again_to_the_same_bytes(bento_model, place, tmp_path):
    files = {"metadata.json": b"{}", "config.json": b"{}", "model.weights.h5": b"w"}
    folder = bento_model("bentoml.keras", files)
    first = bentoml.resolve_model(folder, place).fields["source"]
    (tmp_path / "again").mkdir()
    second = bentoml.resolve_model(folder, Place(tmp_path / "again")).fields["source"]
    with zipfile.ZipFile(first) as archive:
        assert set(archive.namelist()) == set(files)
    with open(first, "rb") as one, open(second, "rb") as two:  # noqa: PTH123
        assert one.read() == two.read()


def test_mlflow_inside_bentoml(bento_model, place, mlmodel):
    folder = bento_model("bentoml.mlflow", {})
    mlmodel(folder / "mlflow_model")
    found = bentoml.resolve_model(folder, place)
    assert found.fields["source"].endswith("mlflow_model/model.onnx")
    assert found.origin["tool"] == "bentoml"
    assert found.origin["flavor"] == "onnx"


@pytest.fixture
def bento(bento_model, tmp_path):
    """A built Bento ``svc:v1`` with two models, whose weights are in the store."""
    bento_model("bentoml.onnx", {"saved_model.onnx": b"1"}, name="one")
    bento_model("bentoml.catboost", {"saved_model.cbm": b"2"}, name="two")
    folder = tmp_path / "bentoml/bentos/svc/v1"
    folder.mkdir(parents=True)
    values = {
        "name": "svc", "version": "v1", "service": "service:Svc", "models": [],
        "services": [{"models": [{"tag": "one:abc", "module": "bentoml.onnx"}, "two:abc"]}],
        "schema": {"routes": [{"name": "classify", "route": "/classify"}]},
    }  # fmt: skip
    (folder / "bento.yaml").write_text(yaml.safe_dump(values))
    (folder.parent / "latest").write_text("v1")
    return folder


def test_a_bento_names_its_models_and_says_what_is_not_converted(bento, place):
    with pytest.raises(ConversionError, match=r"has the models one:abc, two:abc; choose one"):
        bentoml.resolve_tag("bentoml:/svc:v1", place)
    found = bentoml.resolve_tag("bentoml:/svc#two", place)
    assert found.fields["source"].endswith("saved_model.cbm")
    assert found.origin["bento"] == "svc:v1"
    assert any("routes /classify" in note for note in found.notes)
    # Without the store the weights are nowhere: a built Bento has only tags.
    with pytest.raises(NotFoundError, match="whose weights are not in it"):
        bentoml.resolve_bento(bento, "two", place, bento / "models")


def test_archives_of_both_kinds(bento, tmp_path, place):
    path = tmp_path / "svc.bento"
    with tarfile.open(path, "w:xz") as tar:
        tar.add(bento, ".")
        tar.add(tmp_path / "bentoml/models", "./models")
    found = bentoml.resolve_archive(path, "one:abc", place)
    assert found.fields["source"] == str(place.folder / "unpacked/models/one/abc/saved_model.onnx")
    (tmp_path / "other").mkdir()
    other = Place(tmp_path / "other")
    with tarfile.open(tmp_path / "m.bentomodel", "w:xz") as tar:
        tar.add(tmp_path / "bentoml/models/two/abc", ".")
    found = bentoml.resolve_archive(tmp_path / "m.bentomodel", "", other)
    assert found.fields["name"] == "two"


@pytest.mark.parametrize(
    ("module", "files", "words"),
    [
        ("bentoml.transformers", {}, "saved by bentoml.transformers, which cannot"),
        ("os.system", {}, "saved by os.system, which cannot"),
        ("bentoml.onnx", {}, "No such file"),
        ("bentoml.keras", {"a": b"", "b": b""}, "neither a SavedModel nor a Keras"),
        ("", {"a": b"", "b": b""}, "made with models.create, holds a, b"),
        (3, {}, "module is 3"),
    ],
)
def test_what_cannot_become_a_bundle(bento_model, place, module, files, words):
    with pytest.raises(ConversionError, match=words):
        bentoml.resolve_model(bento_model(module, files), place)


def test_tags_that_are_not_there_or_leave_the_store(bento_model, place, tmp_path):
    bento_model("bentoml.onnx", {"saved_model.onnx": b""})
    for tag in ("other", "scorer:nope", "..:models", "scorer:../../x", "scorer/abc"):
        with pytest.raises(NotFoundError, match=r"has no .*; it has scorer:latest"):
            bentoml.resolve_tag(f"bentoml:/{tag}", place)
    (tmp_path / "bentoml/models/scorer/latest").write_text("../../../etc")
    with pytest.raises(NotFoundError):
        bentoml.resolve_tag("bentoml:/scorer", place)
    with pytest.raises(ConversionError, match="no BentoML store"):
        bentoml.resolve_tag("bentoml:/scorer", Place(place.folder, store=str(tmp_path / "none")))


def test_other_batch_axes_are_noted(bento_model, place):
    signatures = {"run": {"batchable": True, "batch_dim": [1, 0]}, "b": {"batch_dim": [0, 0]}}
    folder = bento_model("bentoml.onnx", {"saved_model.onnx": b""}, signatures=signatures)
    assert len(bentoml.resolve_model(folder, place).notes) == 1


def test_the_refusal_is_of_the_right_kind(bento_model, place):
    with pytest.raises(UnsupportedModelError):
        bentoml.resolve_model(bento_model("bentoml.diffusers", {}), place)
