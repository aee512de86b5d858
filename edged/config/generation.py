"""What an operator allows of the texts that a model makes."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from edged.config.section import Section


class GenerationConfig(Section, frozen=True, kw_only=True):
    """Bounds of one text; a model that makes texts has these where nothing is written."""

    max_new_tokens: Annotated[
        int,
        Meta(ge=1, le=1 << 20, description="most tokens made for a request; it may ask for fewer"),
    ] = 512
    max_prompt: Annotated[
        int, Meta(ge=1, le=1 << 20, description="tokens of a prompt; a longer one is refused")
    ] = 4096
