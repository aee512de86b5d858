"""What a registry makes of a source, and how values out of a description are checked."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from converters.errors import ConversionError

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Resolved:
    """A source of another tool as recipe fields.

    Args:
        fields: recipe fields that the artefact answers (source, kind, samples, name, …); what the
            user says wins over them.
        origin: where it comes from, for the bundle's provenance: names and ids, never a path.
        notes: what the user should know.
        examples: the samples in ``fields`` are an example that came with the artefact, not the
            user's own data.
    """

    fields: dict[str, Any]
    origin: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    examples: bool = False


@dataclass
class Place:
    """Where a registry may put what it unpacks, downloads or writes; gone after the conversion.

    Args:
        folder: an empty folder.
        store: where the user's registry is, or None for the tool's own default.
        progress: called with each slow step.
    """

    folder: Path
    store: str | None = None
    progress: Progress = lambda _step: None


def text_of(values: Mapping[str, Any], key: str, where: str) -> str:
    """A text out of a description.

    Raises:
        ConversionError: missing, or something else.
    """
    value = values.get(key)
    if not isinstance(value, str) or not value:
        raise ConversionError(f"{where}: {key} is {value!r}, expected a text")
    return value


def mapping_of(values: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    """A mapping out of a description; an absent one is empty.

    Raises:
        ConversionError: it is something else.
    """
    value = values.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConversionError(f"{where}: {key} is {value!r:.60}, expected a mapping")
    return value


def model_name(text: str) -> str:
    """A name of another tool in the alphabet of a model's name."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:64]
    return name or "model"
