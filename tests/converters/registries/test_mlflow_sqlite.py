"""What only the store in SQLite has: other columns of later versions, locks, files that are none."""

import sqlite3

import pytest

from converters.errors import ConversionError
from converters.registries.mlflow import open_store
from converters.registries.mlflow_uri import ModelUri
from edged.errors import NotFoundError


@pytest.mark.parametrize("content", [b"", b"SQLite format 3\0 and then rubbish", b"text" * 400])
def test_a_database_that_is_none(tmp_path, content):
    (tmp_path / "mlflow.db").write_bytes(content)
    with pytest.raises(ConversionError, match="expected an MLflow database"):
        open_store(str(tmp_path)).version(ModelUri("scorer", version=1))


def test_a_locked_database_is_told(sqlite_store, monkeypatch):
    monkeypatch.setattr("converters.registries.mlflow_sqlite.LOCK_SECONDS", 0.01)
    store = open_store(str(sqlite_store))
    version = store.version(ModelUri("scorer", version=1))
    holder = sqlite3.connect(sqlite_store)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(ConversionError, match="locked"):
        store.set_alias(version, "champion")
    holder.rollback()
    holder.close()


def test_a_deleted_version_is_not_there(sqlite_store):
    with sqlite3.connect(sqlite_store) as database:
        database.execute(
            "UPDATE model_versions SET current_stage = 'Deleted_Internal' WHERE version = 2"
        )
    database.close()
    store = open_store(str(sqlite_store))
    with pytest.raises(NotFoundError, match="scorer/2 is not in the registry; it has scorer@champ"):
        store.version(ModelUri("scorer", version=2))


def test_a_failed_write_leaves_no_half_of_it(sqlite_store):
    store = open_store(str(sqlite_store))
    version = store.version(ModelUri("scorer", version=1))
    with pytest.raises(ConversionError):
        store.set_tags(version, {"edged.a": "1", "edged.b": object()})
    assert store.version(ModelUri("scorer", version=1)).tags == version.tags
