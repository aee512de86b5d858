"""MLflow's store in SQLite (``mlflow.db``), its default since 3, read without MLflow.

Three tables say it: alias → version → logged model.
"""

# ruff: noqa: D102  (Store documents the methods)

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from converters.errors import ConversionError
from converters.registries.mlflow_store import LocalStore, ModelVersion, missing
from converters.registries.mlflow_uri import ModelUri
from edged.errors import NotFoundError

LOCK_SECONDS = 10.0
"""How long another process may hold the database: MLflow's own writes take milliseconds."""


class SqliteStore(LocalStore):
    """``mlflow.db``: MLflow's default since 3."""

    def __init__(self, path: Path) -> None:
        super().__init__(path.absolute().parent)
        self._file = path.absolute()

    def version(self, uri: ModelUri) -> ModelVersion:
        with self._open() as database:
            number = self._number(database, uri)
            row = database.execute(
                "SELECT * FROM model_versions WHERE name = ? AND version = ?", (uri.name, number)
            ).fetchone()
            if row is None or row["current_stage"] == "Deleted_Internal":
                raise NotFoundError(missing(uri, self._known(database, uri.name)))
            tags = database.execute(
                "SELECT key, value FROM model_version_tags WHERE name = ? AND version = ?",
                (uri.name, number),
            ).fetchall()
        source = str(row["source"] or "")
        model_id = source.removeprefix("models:/") if source.startswith("models:/m-") else ""
        stored = row["storage_location"] if "storage_location" in row.keys() else None  # noqa: SIM118
        location = stored or (self.logged_model(model_id) if model_id else source)
        return ModelVersion(
            uri.name, number, str(location), str(row["run_id"] or ""), model_id,
            {str(tag["key"]): str(tag["value"]) for tag in tags},
        )  # fmt: skip

    def logged_model(self, model_id: str) -> str:
        row = self._one("SELECT artifact_location FROM logged_models WHERE model_id = ?", model_id)
        if row is None:
            raise NotFoundError(f'the registry has no logged model "{model_id}"')
        return str(row[0])

    def run_model(self, run_id: str, path: str) -> str:
        row = self._one(
            "SELECT artifact_location FROM logged_models WHERE source_run_id = ? AND name = ? "
            "ORDER BY creation_timestamp_ms DESC", run_id, path,
        )  # fmt: skip
        if row is not None:
            return str(row[0])
        row = self._one("SELECT artifact_uri FROM runs WHERE run_uuid = ?", run_id)
        if row is None:
            raise NotFoundError(f'the registry has no run "{run_id}"')
        return f"{row[0]}/{path}"

    def set_tags(self, version: ModelVersion, tags: dict[str, str]) -> None:
        with self._open(write=True) as database:
            for key, value in tags.items():
                self._upsert(database, "model_version_tags",
                    {"name": version.name, "version": version.version, "key": key},
                    {"value": value},
                )  # fmt: skip
            self._touch(database, version)

    def set_alias(self, version: ModelVersion, alias: str) -> None:
        with self._open(write=True) as database:
            self._upsert(database, "registered_model_aliases",
                {"name": version.name, "alias": alias}, {"version": version.version},
            )  # fmt: skip
            self._touch(database, version)

    @staticmethod
    def _upsert(
        database: sqlite3.Connection, table: str, keys: dict[str, Any], values: dict[str, Any]
    ) -> None:
        """Change a row, or add it; other columns (MLflow's workspace) get their defaults."""
        where = " AND ".join(f"{name} = ?" for name in keys)
        change = ", ".join(f"{name} = ?" for name in values)
        sql = f"UPDATE {table} SET {change} WHERE {where}"  # noqa: S608  (names of ours)
        if database.execute(sql, (*values.values(), *keys.values())).rowcount:
            return
        row = {**keys, **values}
        marks = ", ".join("?" for _ in row)
        sql = f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})"  # noqa: S608
        database.execute(sql, tuple(row.values()))

    @staticmethod
    def _touch(database: sqlite3.Connection, version: ModelVersion) -> None:
        database.execute(
            "UPDATE registered_models SET last_updated_time = ? WHERE name = ?",
            (int(time.time() * 1000), version.name),
        )

    def _number(self, database: sqlite3.Connection, uri: ModelUri) -> int:
        if uri.version is not None:
            return uri.version
        if uri.alias:
            sql = "SELECT version FROM registered_model_aliases WHERE name = ? AND alias = ?"
            row = database.execute(sql, (uri.name, uri.alias)).fetchone()
        else:
            sql = "SELECT max(version) FROM model_versions WHERE name = ?"
            row = database.execute(sql, (uri.name,)).fetchone()
        if row is None or row[0] is None:
            raise NotFoundError(missing(uri, self._known(database, uri.name)))
        return int(row[0])

    @staticmethod
    def _known(database: sqlite3.Connection, name: str) -> list[str]:
        """What there is instead: aliases and versions of the model, or the models."""
        aliases = database.execute(
            "SELECT alias, version FROM registered_model_aliases WHERE name = ?", (name,)
        ).fetchall()
        sql = "SELECT version FROM model_versions WHERE name = ? ORDER BY version DESC LIMIT 5"
        versions = [f"{name}/{row[0]}" for row in database.execute(sql, (name,))]
        if aliases or versions:
            return [f"{name}@{row[0]} ({row[1]})" for row in aliases] + versions
        rows = database.execute("SELECT name FROM registered_models LIMIT 10").fetchall()
        return [str(row[0]) for row in rows]

    def _one(self, sql: str, *values: str) -> sqlite3.Row | None:
        with self._open() as database:
            row: sqlite3.Row | None = database.execute(sql, values).fetchone()
            return row

    @contextlib.contextmanager
    def _open(self, *, write: bool = False) -> Iterator[sqlite3.Connection]:
        """The database, read-only unless asked; one transaction.

        Raises:
            ConversionError: it is not an MLflow database, or another process holds it.
        """
        uri = f"{self._file.as_uri()}?mode={'rw' if write else 'ro'}"
        try:
            database = sqlite3.connect(uri, uri=True, timeout=LOCK_SECONDS, isolation_level=None)
            with contextlib.closing(database):
                database.row_factory = sqlite3.Row
                database.execute("PRAGMA trusted_schema = OFF")
                database.execute("BEGIN IMMEDIATE" if write else "BEGIN")
                yield database
                database.execute("COMMIT")
        except sqlite3.Error as exc:
            raise ConversionError(
                f'"{self._file}": {exc}; expected an MLflow database (mlflow.db) with a model '
                "registry"
            ) from exc
