"""Further brokers by name, as an operator writes them: what a binding reads from or answers to."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from edged.config.broker import BrokerConfig, ClientId
from edged.config.section import Section
from edged.specs import Duration

BrokerName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,15}\Z", examples=["plant"])]
MAIN = "mqtt"
"""The name of the broker of the section ``mqtt``."""


class NamedBrokerConfig(BrokerConfig, Section, frozen=True, kw_only=True):
    """A broker beside that of ``mqtt``."""

    client_id: Annotated[
        ClientId | None, Meta(description="default: that of mqtt, and the broker's name")
    ] = None
    session_expiry: Annotated[
        Duration, Meta(description="how long the broker keeps messages for us while we are away")
    ] = Duration(24 * 3600 * 1_000_000_000)
