"""The base of every mapping in the configuration. Words only."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from edged.specs import MODEL_NAME

ModelName = Annotated[str, Meta(pattern=MODEL_NAME, examples=["gate-1"])]
Path = Annotated[str, Meta(min_length=1, max_length=1024)]
Reference = Annotated[str, Meta(min_length=1, max_length=320)]
"""A value of a pipeline: an input, a step, or STEP.OUTPUT."""
Axis = Annotated[int, Meta(ge=-8, le=7)]


class Section(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Base of every mapping in the configuration: frozen, and closed against misspellings."""
