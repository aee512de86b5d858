"""Which registry a source belongs to, told by looking at names, and the recipe fields it gives."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from converters.errors import UnsupportedModelError
from converters.paths import check_plain
from converters.recipe import Recipe, make_recipe
from converters.registries import bentoml, mlflow, mlflow_model
from converters.registries.mlflow_uri import is_mlflow_uri
from converters.registries.resolved import Place, Progress, Resolved

ARCHIVES = (".bentomodel", ".bento")


@contextmanager
def opened(
    fields: dict[str, Any], store: str | None, progress: Progress = lambda _step: None
) -> Iterator[Resolved]:
    """Replace a registry's source in recipe fields by the model file that it means.

    Args:
        fields: what the user said; a source that is no registry's stays as it is.
        store: where the registry is (``--store``).
        progress: called with each slow step.

    Yields:
        The recipe fields, the user's own over the artefact's. Files that they name may lie in a
        folder that is removed afterwards.

    Raises:
        ConversionError: the artefact cannot become a bundle, or is not what its tool writes.
        NotFoundError: the registry does not have it.
    """
    source = fields.get("source")
    if not isinstance(source, str) or not is_registry_source(source):
        yield Resolved(dict(fields))
        return
    folder = Path(tempfile.mkdtemp(prefix="edged-registry-"))
    try:
        found = resolve(source, Place(folder, store, progress))
        given = {name: value for name, value in fields.items() if name != "source"}
        merged = {**found.fields, **given, "origin": found.origin}
        if found.examples and "samples" not in given:
            merged["samples_are"] = "example"
        yield replace(found, fields=merged)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def resolved(recipe: Recipe, progress: Progress) -> Iterator[tuple[Recipe, tuple[str, ...]]]:
    """A recipe whose source is a file, and what the user should know; see ``opened``."""
    if not is_registry_source(recipe.source):
        yield recipe, ()
        return
    plain = Recipe(source=recipe.source, name=recipe.name, release=recipe.release)
    given = {
        name: value
        for name, value in msgspec.to_builtins(recipe).items()
        if name in {"source", "name", "release"} or getattr(recipe, name) != getattr(plain, name)
    }
    with opened(given, None, progress) as found:
        yield make_recipe(found.fields, recipe.source), found.notes


def is_registry_source(source: str) -> bool:
    """Whether a source is another tool's artefact; looks at names only."""
    if is_mlflow_uri(source) or source.startswith(bentoml.SCHEME):
        return True
    check_plain(Path(source), "source")
    path = _path(source)[0]
    if path.suffix in ARCHIVES:
        return path.is_file()
    return path.is_dir() and _folder_kind(path) is not None


def resolve(source: str, place: Place) -> Resolved:
    """Resolve a source for which ``is_registry_source`` holds."""
    if is_mlflow_uri(source):
        return mlflow.resolve_uri(source, place)
    if source.startswith(bentoml.SCHEME):
        return bentoml.resolve_tag(source, place)
    path, wanted = _path(source)
    if path.suffix in ARCHIVES:
        return bentoml.resolve_archive(path, wanted, place)
    kind = _folder_kind(path)
    if kind == "mlflow":
        return mlflow_model.resolve_folder(path, place)
    if kind == "bentoml":
        return bentoml.resolve_model(path, place)
    if kind == "bento":
        return bentoml.resolve_bento(
            path, wanted, place, path.absolute().parent.parent.parent / "models"
        )
    raise UnsupportedModelError(
        f'"{path}" is a Triton model repository, which becomes several bundles and a '
        f"configuration: edged-convert import {path} -o FOLDER"
    )


def _path(source: str) -> tuple[Path, str]:
    """A path and the model that is chosen from it (``service.bento#name``)."""
    path, mark, wanted = source.partition("#")
    return (Path(path), wanted) if mark and not Path(source).exists() else (Path(source), "")


def _folder_kind(path: Path) -> str | None:
    if mlflow_model.is_model_folder(path):
        return "mlflow"
    if bentoml.is_bento_folder(path):
        return "bento"
    if bentoml.is_model_folder(path):
        return "bentoml"
    if (path / "config.pbtxt").is_file() or any(path.glob("*/config.pbtxt")):
        return "triton"
    return None
