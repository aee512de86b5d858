"""What an operator says about memory: how much of it there is for models, and who is in it."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from edged.config.section import Section
from edged.specs import Size


class MemoryConfig(Section, frozen=True, kw_only=True):
    """What the models of this device may take together; who is asked least goes first."""

    budget: Annotated[
        Size | None,
        Meta(description="of loaded models; default: three quarters of what is free at the start"),
    ] = None
    cuda: Annotated[
        Size | None, Meta(description="the same for the memory of the GPU, where it has its own")
    ] = None


class ModelMemoryConfig(Section, frozen=True, kw_only=True):
    """When a model is in memory."""

    pinned: Annotated[
        bool, Meta(description="it is never sent away; the budget must hold all such models")
    ] = False
    load: Annotated[
        Literal["eager", "lazy"],
        Meta(description="eager = at the start, where there is room; lazy = at the first request"),
    ] = "eager"
    swap: Annotated[
        Literal["overlap", "replace"],
        Meta(description="replace = the old release goes before a new one loads, requests wait"),
    ] = "overlap"
