"""How a binding tells Home Assistant of its devices, as an operator writes it. Words only."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from edged.config.section import Section
from edged.specs import Duration


class DiscoveryConfig(Section, frozen=True, kw_only=True):
    """Home Assistant's MQTT discovery: one retained message a device."""

    device: Annotated[
        str,
        Meta(min_length=1, max_length=256, description="which device an answer is of, {device}"),
    ]
    prefix: Annotated[
        str,
        Meta(pattern=r"^[^#+\x00{}]{1,128}\Z", description="Home Assistant's discovery prefix"),
    ] = "homeassistant"
    delay: Annotated[
        Duration,
        Meta(description="after Home Assistant's birth, all is told again within so long"),
    ] = Duration(10_000_000_000)
