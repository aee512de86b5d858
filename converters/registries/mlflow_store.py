"""What is asked of an MLflow registry, and what its local forms share; MLflow is not needed.

Writes only tags of a version, an alias, and one file beside the model: what ``--record`` and
``promote`` do.
"""

# ruff: noqa: D102  (Store documents the methods)

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from converters.atomic import replace_file
from converters.errors import ConversionError, UnsupportedModelError
from converters.registries.mlflow_uri import ModelUri


@dataclass(frozen=True)
class ModelVersion:
    """One version of a registered model.

    Args:
        location: where its files are (a path, or a URI of a server).
    """

    name: str
    version: int
    location: str
    run_id: str = ""
    model_id: str = ""
    tags: dict[str, str] = field(default_factory=dict)


class Store(Protocol):
    """What is asked of a registry; every method raises ConversionError or NotFoundError."""

    def version(self, uri: ModelUri) -> ModelVersion:
        """The version that a URI means."""

    def logged_model(self, model_id: str) -> str:
        """Where the files of a logged model are."""

    def run_model(self, run_id: str, path: str) -> str:
        """Where the files of a model are that a run logged."""

    def fetch(self, location: str, folder: Path) -> Path:
        """The model folder as a local one; downloads into ``folder`` where needed."""

    def set_tags(self, version: ModelVersion, tags: dict[str, str]) -> None:
        """Write tags of a version."""

    def set_alias(self, version: ModelVersion, alias: str) -> None:
        """Let an alias mean this version."""

    def put(self, location: str, name: str, data: bytes) -> None:
        """Write one file into the model folder."""


class LocalStore:
    """What both local forms share: files on this machine."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def fetch(self, location: str, folder: Path) -> Path:  # noqa: ARG002  (nothing to download)
        path = self._path(location)
        if not path.is_dir():
            raise ConversionError(
                f'the registry says that the model lies in "{location}", where there is no folder; '
                "was the store moved without its artefacts, or are they on another machine?"
            )
        return path

    def put(self, location: str, name: str, data: bytes) -> None:
        folder = self._path(location) / Path(name).parent
        try:
            folder.mkdir(exist_ok=True)
            if folder.is_symlink():
                raise ConversionError(f'"{folder}" is a symbolic link; nothing is written there')
        except OSError as exc:
            raise ConversionError(f'"{folder}": cannot be written: {exc.strerror}') from exc
        replace_file(folder / Path(name).name, data)

    def _path(self, location: str) -> Path:
        """A location as a path; one from before the store was moved is looked for beside it."""
        parts = urlsplit(location)
        if parts.scheme not in ("", "file"):
            raise UnsupportedModelError(
                f'the model lies in "{location}", which a local store cannot read: name the '
                "tracking server (--store http://…), or fetch it with "
                '"mlflow artifacts download" and convert the folder'
            )
        path = Path(unquote(parts.path) if parts.scheme else location)
        if not path.is_absolute():
            path = self._root / path
        if not path.exists() and "mlruns" in path.parts:
            tail = path.parts[path.parts.index("mlruns") + 1 :]
            for root in (self._root / "mlruns", self._root):
                if root.joinpath(*tail).is_dir():
                    return root.joinpath(*tail)
        return path


def missing(uri: ModelUri, known: list[str]) -> str:
    """What to say when a URI means nothing, with what there is."""
    listed = ", ".join(known) or "nothing"
    return f"{uri.said} is not in the registry; it has {listed}"
