"""MLflow end to end: a URI or folder becomes recipe fields; proof goes back as tags and a file."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from converters.errors import ConversionError, ParityError
from converters.registries.mlflow_files import FileStore
from converters.registries.mlflow_model import resolve_folder
from converters.registries.mlflow_server import ServerStore
from converters.registries.mlflow_sqlite import SqliteStore
from converters.registries.mlflow_store import ModelVersion, Store
from converters.registries.mlflow_uri import ModelUri, RunUri, is_alias, parse_uri
from converters.registries.resolved import Place, Resolved, model_name

if TYPE_CHECKING:
    from converters.workflow import Report

DIGEST_TAG = "edged.bundle_digest"
REPORT_FILE = "edged/{name}-{release}.json"


def open_store(named: str | None) -> Store:
    """The registry that the user named, or that MLflow itself would take.

    Args:
        named: ``--store``: a database, an ``mlruns`` folder, a folder that holds one of them, or
            the URL of a tracking server. None: MLFLOW_REGISTRY_URI, MLFLOW_TRACKING_URI, else
            ``mlflow.db`` or ``mlruns`` in the working directory.

    Raises:
        ConversionError: there is no such store; says what was looked for.
    """
    environment = os.environ.get("MLFLOW_REGISTRY_URI") or os.environ.get("MLFLOW_TRACKING_URI")
    text = named or environment or "."
    if text.startswith(("http://", "https://")):
        return ServerStore(text)
    for prefix in ("sqlite:///", "file://", "file:"):
        text = text.removeprefix(prefix)
    if "://" in text:
        raise ConversionError(
            f'"{text.split("://", 1)[0]}://…" is a store that only a tracking server can read: '
            "--store http(s)://SERVER"
        )
    path = Path(text)
    if path.is_file():
        return SqliteStore(path)
    if (path / "mlflow.db").is_file():
        return SqliteStore(path / "mlflow.db")
    for folder in (path, path / "mlruns"):
        if (folder / "models").is_dir() or (folder / "0").is_dir():
            return FileStore(folder)
    raise ConversionError(
        f'"{path.absolute()}" holds neither mlflow.db nor mlruns; name the MLflow store with '
        "--store (a database, an mlruns folder or http://SERVER) or MLFLOW_TRACKING_URI"
    )


def resolve_uri(source: str, place: Place) -> Resolved:
    """Resolve a registry URI to the model folder that it means, and read that.

    Raises:
        NotFoundError: the registry does not have it; lists what it has.
        ConversionError: as ``resolve_folder``.
    """
    uri = parse_uri(source)
    store = open_store(place.store)
    place.progress(f"resolving {uri.said}")
    if isinstance(uri, RunUri):
        location = store.run_model(uri.run_id, uri.path)
        return resolve_folder(store.fetch(location, place.folder), place)
    if uri.model_id:
        return resolve_folder(store.fetch(store.logged_model(uri.model_id), place.folder), place)
    version = store.version(uri)
    found = resolve_folder(store.fetch(version.location, place.folder), place)
    fields: dict[str, Any] = {"name": model_name(version.name), "release": version.version}
    origin = {"model": version.name, "model_version": str(version.version)}
    for key in ("run_id", "model_id"):
        if getattr(version, key):
            origin[key] = getattr(version, key)
    return replace(found, fields={**fields, **found.fields}, origin={**found.origin, **origin})


def check_recordable(source: str) -> None:
    """Say before the conversion that there is nothing to record to.

    Raises:
        ConversionError: the source is not a version of a registered model.
    """
    uri = parse_uri(source)
    if isinstance(uri, RunUri) or not uri.name:
        raise ConversionError(
            f"{source} is not a version of a registered model, which alone has tags and aliases: "
            "models:/NAME@ALIAS or models:/NAME/VERSION"
        )


def record(source: str, report: Report, store: str | None) -> ModelVersion:
    """Write the proof of a bundle to the model version that it was made from.

    Tags say the digest and the parity; the whole report becomes an artefact of the version.

    Returns:
        The version that was written to.

    Raises:
        ConversionError: the source is not a registered version, or the store cannot be written.
    """
    opened, version = _registered(source, store)
    made = (report.manifest.provenance.get("origin") or {}).get("model_version")
    if made != str(version.version):
        raise ConversionError(
            f"{source} now means version {version.version}, the bundle was made from version "
            f"{made}: nothing was recorded; convert again"
        )
    manifest = report.manifest
    name = REPORT_FILE.format(name=manifest.name, release=manifest.release)
    title = f"{manifest.name} release {manifest.release}"
    text = {
        "bundle": title,
        "digest": report.digest,
        "signed": report.is_signed,
        "parity": manifest.parity,
        "provenance": manifest.provenance,
        "checks": [msgspec.to_builtins(check) for check in report.checks],
        "warnings": list(report.warnings),
    }
    opened.put(version.location, name, json.dumps(text, indent=2, sort_keys=True).encode("utf-8"))
    outputs = manifest.parity.get("outputs", {})
    worst = {key: value.get("max_abs") for key, value in outputs.items()}
    opened.set_tags(version, {
        DIGEST_TAG: report.digest,
        "edged.bundle": title,
        "edged.grade": str(manifest.parity.get("grade")),
        "edged.parity": json.dumps({"rows": manifest.parity.get("rows"), "max_abs": worst}),
        "edged.report": name,
    })  # fmt: skip
    return version


def promote(source: str, alias: str, store: str | None) -> ModelVersion:
    """Let an alias mean the version that a proven bundle was made from.

    Raises:
        ParityError: no bundle of that version was recorded, so nothing is proven about it.
        ConversionError: the source is not a registered version, or the alias is none.
    """
    if not is_alias(alias):
        raise ConversionError(f'"{alias}" is not an alias: letters, digits, - and _')
    opened, version = _registered(source, store)
    if not version.tags.get(DIGEST_TAG):
        raise ParityError(
            f"version {version.version} of {version.name} has no recorded bundle (tag "
            f"{DIGEST_TAG}): convert it with --record first; the alias stays where it is"
        )
    opened.set_alias(version, alias)
    return version


def _registered(source: str, store: str | None) -> tuple[Store, ModelVersion]:
    check_recordable(source)
    uri = parse_uri(source)
    assert isinstance(uri, ModelUri)
    opened = open_store(store)
    return opened, opened.version(uri)
