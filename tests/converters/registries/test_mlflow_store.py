"""Both local stores, read and written without MLflow; what is not there is told with what is."""

import pytest

from converters.errors import ConversionError, ParityError, UnsupportedModelError
from converters.registries import mlflow
from converters.registries.mlflow import open_store, promote
from converters.registries.mlflow_uri import ModelUri, is_alias
from edged.errors import NotFoundError


@pytest.fixture(params=["sqlite_store", "file_store"])
def store(request):
    return open_store(str(request.getfixturevalue(request.param)))


def test_alias_number_latest_and_ids(store):
    assert store.version(ModelUri("scorer", alias="champion")).version == 1
    assert store.version(ModelUri("scorer", version=2)).version == 2
    version = store.version(ModelUri("scorer"))
    assert (version.version, version.run_id, version.model_id) == (2, "run2", "m-2")
    for location in (
        version.location,
        store.logged_model("m-2"),
        store.run_model("run2", "scorer"),
    ):
        folder = store.fetch(location, None)
        assert (folder / "MLmodel").is_file()
        assert folder.parent.name == "m-2"


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        (ModelUri("scorer", alias="nobody"), r"scorer@nobody is not in .*scorer@champion"),
        (ModelUri("scorer", version=7), r"scorer/7 is not in .*scorer/2"),
        (ModelUri("other", alias="champion"), r"other@champion is not in .*scorer"),
        (ModelUri("other"), r"other/latest is not in"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(store, uri, words):
    with pytest.raises(NotFoundError, match=words):
        store.version(uri)


def test_ids_that_are_not_there(store):
    with pytest.raises(NotFoundError, match="no logged model"):
        store.logged_model("m-9")
    with pytest.raises(NotFoundError, match="no run"):
        store.run_model("run9", "scorer")


def test_tags_alias_and_file_are_written(store):
    version = store.version(ModelUri("scorer", version=2))
    store.set_tags(version, {"edged.a": "1", "edged.b": "x"})
    store.set_tags(version, {"edged.a": "2"})
    store.put(version.location, "edged/r.json", b"{}")
    store.set_alias(version, "champion")
    store.set_alias(version, "new")
    again = store.version(ModelUri("scorer", alias="champion"))
    assert (again.version, again.tags) == (2, {"edged.a": "2", "edged.b": "x"})
    assert store.version(ModelUri("scorer", alias="new")).version == 2
    assert (store.fetch(again.location, None) / "edged/r.json").read_bytes() == b"{}"


def test_nothing_is_written_through_a_link(store, tmp_path):
    version = store.version(ModelUri("scorer", version=2))
    (tmp_path / "victim").mkdir()
    (store.fetch(version.location, None) / "edged").symlink_to(tmp_path / "victim")
    with pytest.raises(ConversionError, match="symbolic link"):
        store.put(version.location, "edged/r.json", b"{}")
    assert not list((tmp_path / "victim").iterdir())


def test_promote_asks_for_proof_first(request, sqlite_store, file_store):
    for path in (sqlite_store, file_store):
        with pytest.raises(ParityError, match="no recorded bundle"):
            promote("models:/scorer/2", "champion", str(path))
        store = open_store(str(path))
        assert store.version(ModelUri("scorer", alias="champion")).version == 1
        store.set_tags(store.version(ModelUri("scorer", version=2)), {mlflow.DIGEST_TAG: "f" * 64})
        promote("models:/scorer/2", "champion", str(path))
        assert store.version(ModelUri("scorer", alias="champion")).version == 2
    with pytest.raises(ConversionError, match="not an alias"):
        promote("models:/scorer/2", "latest", str(sqlite_store))
    with pytest.raises(ConversionError, match="not a version of a registered model"):
        promote("models:/m-2", "champion", str(sqlite_store))
    assert is_alias("champion")
    assert not is_alias("v3")


def test_a_moved_store_is_found_beside_itself(sqlite_store, tmp_path):
    moved = tmp_path / "moved"
    sqlite_store.parent.rename(moved)
    store = open_store(str(moved))
    folder = store.fetch(store.version(ModelUri("scorer", version=1)).location, None)
    assert folder == moved / "mlruns/0/models/m-1/artifacts"


def test_where_the_store_is_looked_for(sqlite_store, file_store, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    uri = ModelUri("scorer", version=1)
    for text in (f"sqlite:///{sqlite_store}", str(sqlite_store.parent), f"file://{file_store}",
                 str(file_store.parent)):  # fmt: skip
        assert open_store(text).version(uri).version == 1
    monkeypatch.chdir(sqlite_store.parent)
    assert open_store(None).version(uri).version == 1
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConversionError, match="holds neither mlflow"):
        open_store(None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{sqlite_store}")
    assert open_store(None).version(uri).version == 1
    with pytest.raises(ConversionError, match="tracking server") as caught:
        open_store("postgresql://user:secret@host/db")
    assert "secret" not in caught.value.message


def test_locations_that_a_local_store_cannot_read(sqlite_store):
    store = open_store(str(sqlite_store))
    with pytest.raises(UnsupportedModelError, match="--store http"):
        store.fetch("mlflow-artifacts:/0/models/m-1/artifacts", None)
    with pytest.raises(UnsupportedModelError, match="mlflow artifacts download"):
        store.fetch("s3://bucket/model", None)
    with pytest.raises(ConversionError, match="no folder"):
        store.fetch("/nowhere/model", None)
