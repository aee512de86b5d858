"""From the command line: a registry's source becomes a bundle, or one message and a status."""

import pickle
import tarfile

import numpy as np
import pytest

import converters
from converters import Recipe, cli
from converters.errors import ConversionError
from converters.registries import lookup, mlflow
from converters.registries.mlflow_uri import ModelUri
from edged.store.bundle import read_manifest


class Bomb:
    """A pickle that makes a file when it is opened."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


def convert(capsys, source, *words):
    status = cli.main([str(source), *map(str, words)])
    got = capsys.readouterr()
    errors = [line for line in got.err.splitlines() if line.startswith("error")]
    return status, got.out, errors


def test_an_alias_becomes_a_bundle_and_the_proof_goes_back(sqlite_store, tmp_path, capsys):
    bundle = tmp_path / "scorer.edgb"
    words = ("-o", bundle, "--store", sqlite_store, "--record")
    status, out, errors = convert(capsys, "models:/scorer@champion", *words)
    assert (status, errors) == (0, [])
    assert "recorded: scorer version 1" in out
    _, manifest, _ = read_manifest(bundle)
    assert (manifest.name, manifest.release) == ("scorer", 1)
    assert manifest.provenance["origin"]["model_version"] == "1"
    assert manifest.provenance["origin"]["run_id"] == "run1"
    assert manifest.parity["grade"] == "checked"  # an example is not the user's own data
    status, out, _ = convert(
        capsys, "promote", "models:/scorer/1", "--alias", "edge", "--store", sqlite_store
    )
    assert (status, out) == (0, "scorer@edge is now version 1\n")
    # The same source by number gives the same bytes: an alias is no part of a bundle.
    again = tmp_path / "again.edgb"
    assert convert(capsys, "models:/scorer/1", "-o", again, "--store", sqlite_store)[0] == 0
    assert again.read_bytes() == bundle.read_bytes()


def test_from_python_the_recipe_wins_and_notes_are_warnings(sqlite_store, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{sqlite_store}")
    recipe = Recipe(source="models:/scorer@champion", name="mine", release=9, labels=("a", "b"))
    report = converters.convert(recipe, tmp_path / "m.edgb")
    assert (report.manifest.name, report.manifest.release) == ("mine", 9)
    assert report.manifest.provenance["origin"]["model_version"] == "1"
    assert report.manifest.output_processing["y"].labels == ("a", "b")
    assert any("input example" in text for text in report.warnings)


def test_an_alias_that_moved_meanwhile_gets_no_proof_of_another_version(
    sqlite_store, tmp_path, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{sqlite_store}")
    recipe = Recipe(source="models:/scorer@champion", name="scorer", release=1)
    report = converters.convert(recipe, tmp_path / "m.edgb")
    store = mlflow.open_store(None)
    store.set_alias(store.version(ModelUri("scorer", version=2)), "champion")
    with pytest.raises(ConversionError, match="now means version 2, the bundle was made from"):
        mlflow.record("models:/scorer@champion", report, None)
    assert not store.version(ModelUri("scorer", version=2)).tags


def test_what_the_user_says_wins(mlmodel, tmp_path, capsys):
    np.save(tmp_path / "rows.npy", np.random.default_rng(3).normal(size=(9, 3)))
    words = ("-o", tmp_path / "m.edgb", "--name", "mine", "--release", "7", "--version", "seven")
    words += ("--samples", tmp_path / "rows.npy")
    assert convert(capsys, mlmodel(), *words)[0] == 0
    _, manifest, _ = read_manifest(tmp_path / "m.edgb")
    assert manifest.parity["grade"] == "verified"
    assert (manifest.name, manifest.release, manifest.version) == ("mine", 7, "seven")


@pytest.mark.parametrize(
    ("source", "status", "words"),
    [
        ("models:/scorer@nobody", 66, "models:/scorer@nobody is not in the registry"),
        ("models:/scorer", 66, 'no logged model "scorer"'),
        ("models:/a/b/c", 65, "not an MLflow URI"),
        ("runs:/none/model", 66, 'no run "none"'),
    ],
)
def test_what_is_not_there_is_one_message(sqlite_store, tmp_path, capsys, source, status, words):
    words_of = ("-o", tmp_path / "m.edgb", "--store", sqlite_store)
    got, _, errors = convert(capsys, source, *words_of)
    assert len(errors) == 1
    assert words in errors[0]
    assert got == status
    assert not list(tmp_path.glob("*.edgb*"))


def test_recording_a_folder_is_refused_before_anything_runs(mlmodel, tmp_path, capsys):
    words = ("-o", tmp_path / "m.edgb", "--name", "m", "--release", "1", "--record")
    status, _, errors = convert(capsys, mlmodel(), *words)
    assert status == 65
    assert not (tmp_path / "m.edgb").exists()
    assert len(errors) == 1


@pytest.mark.hostile("T3 a pickle inside a registry's model")
@pytest.mark.parametrize("kind", ["mlflow", "skops", "bentoml", "bentomodel"])
def test_a_pickle_inside_is_not_opened_without_trust(kind, mlmodel, bento_model, tmp_path, capsys):
    canary = tmp_path / "fired"
    bomb = pickle.dumps(Bomb(canary))
    if kind in ("mlflow", "skops"):
        block = {"pickled_model": "model.pkl", "serialization_format": kind}
        source = mlmodel(flavors={"sklearn": block})
        (source / "model.pkl").write_bytes(bomb)
    else:
        source = bento_model("bentoml.sklearn", {"saved_model.pkl": bomb})
    if kind == "bentomodel":
        with tarfile.open(tmp_path / "m.bentomodel", "w:xz") as archive:
            archive.add(source, ".")
        source = tmp_path / "m.bentomodel"
    np.save(tmp_path / "rows.npy", np.eye(4))
    words = ("-o", tmp_path / "m.edgb", "--name", "m", "--release", "1")
    words += ("--samples", tmp_path / "rows.npy")
    status, _, errors = convert(capsys, source, *words)
    assert status == 77
    assert "--trust" in errors[0]
    assert not canary.exists()
    if kind == "mlflow":
        # The control: with --trust it does fire, in its own process, and is refused still.
        assert convert(capsys, source, *words, "--trust")[0] == 65
        assert canary.exists()
    assert not (tmp_path / "m.edgb").exists()


def test_an_ordinary_source_is_left_alone(tmp_path):
    (tmp_path / "model").mkdir()
    for source in ("m.onnx", "net:Net", str(tmp_path / "model"), str(tmp_path / "none.bento")):
        assert not lookup.is_registry_source(source)
        with lookup.opened({"source": source}, None) as found:
            assert found.fields == {"source": source}


def test_what_was_unpacked_is_removed(mlmodel, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temp"))
    (tmp_path / "temp").mkdir()
    with lookup.opened({"source": str(mlmodel())}, None):
        assert list((tmp_path / "temp").iterdir())
    assert not list((tmp_path / "temp").iterdir())
