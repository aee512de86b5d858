"""What an operator says about the store of bundles: how large it may be, and what stays in it."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from edged.config.section import Section
from edged.specs import Size


class StoreConfig(Section, frozen=True, kw_only=True):
    """The bundles that the daemon keeps in its state directory."""

    max_bytes: Annotated[
        Size | None,
        Meta(description="a bundle that would make the store larger is refused; default: no limit"),
    ] = None
    keep: Annotated[
        int,
        Meta(
            ge=0,
            le=100,
            description="releases of each model that stay though unneeded, while there is room",
        ),
    ] = 2
    generations: Annotated[
        int,
        Meta(ge=2, le=20, description="configurations that stay, each with its bundles"),
    ] = 20
