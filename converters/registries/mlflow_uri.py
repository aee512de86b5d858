"""MLflow's URIs: ``models:/name@alias``, ``models:/name/3``, ``models:/m-…``, ``runs:/…/path``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from converters.errors import ConversionError

SCHEMES = ("models:/", "runs:/")
_NAME = re.compile(r"[^/\\:\x00-\x1f]{1,250}")
_WORD = re.compile(r"[A-Za-z0-9_-]{1,250}")
"""What MLflow allows as an alias; ids of models and runs are of the same letters."""


@dataclass(frozen=True)
class ModelUri:
    """A registered model's version, by number, alias or "latest"; or a logged model by its id."""

    name: str = ""
    version: int | None = None
    alias: str = ""
    model_id: str = ""

    @property
    def said(self) -> str:
        """The URI as people write it."""
        if self.model_id:
            return f"models:/{self.model_id}"
        if self.alias:
            return f"models:/{self.name}@{self.alias}"
        return f"models:/{self.name}/{self.version or 'latest'}"


@dataclass(frozen=True)
class RunUri:
    """A model that a run logged."""

    run_id: str
    path: str

    @property
    def said(self) -> str:
        """The URI as people write it."""
        return f"runs:/{self.run_id}/{self.path}"


def is_mlflow_uri(source: str) -> bool:
    """Whether a source is one of MLflow's URIs."""
    return source.startswith(SCHEMES)


def is_alias(text: str) -> bool:
    """Whether MLflow takes a text as an alias; "latest" and "v3" mean versions."""
    reserved = text.lower() == "latest" or re.fullmatch(r"[vV][0-9]+", text)
    return _WORD.fullmatch(text) is not None and not reserved


def parse_uri(source: str) -> ModelUri | RunUri:
    """Take a URI apart.

    Raises:
        ConversionError: not one of the forms above; lists them.
    """
    scheme, _, rest = source.partition(":")
    parts = [part for part in rest.lstrip("/").split("/") if part]
    if scheme == "runs" and len(parts) >= 2 and _WORD.fullmatch(parts[0]) and ".." not in parts:
        return RunUri(parts[0], "/".join(parts[1:]))
    found = _model_uri(parts) if scheme == "models" else None
    if found is None:
        raise ConversionError(
            f'"{source}" is not an MLflow URI that is taken: models:/NAME@ALIAS, '
            "models:/NAME/VERSION, models:/NAME/latest, models:/m-MODEL_ID or runs:/RUN_ID/PATH"
        )
    return found


def _model_uri(parts: list[str]) -> ModelUri | None:
    name, _, alias = parts[0].rpartition("@") if parts else ("", "", "")
    if len(parts) == 1 and name and _NAME.fullmatch(name) and _WORD.fullmatch(alias):
        return ModelUri(name, alias=alias)
    if len(parts) == 1 and "@" not in parts[0] and _WORD.fullmatch(parts[0]):
        return ModelUri(model_id=parts[0])
    if len(parts) == 2 and _NAME.fullmatch(parts[0]) and parts[0] not in (".", ".."):
        if parts[1].isascii() and parts[1].isdigit() and len(parts[1]) <= 9:
            return ModelUri(parts[0], version=int(parts[1]))
        if parts[1].lower() == "latest":
            return ModelUri(parts[0])
    return None
