"""What an operator says about the connection that brings requests. Words only."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from edged.config.broker import BrokerConfig, ClientId, OutboxConfig, ResultsConfig, broker_files
from edged.config.desired import DesiredConfig
from edged.config.section import Path
from edged.config.sparkplug import SparkplugNodeConfig
from edged.specs import Duration


class MqttConfig(BrokerConfig, frozen=True, kw_only=True):
    """The broker connection."""

    client: Annotated[
        Literal["paho", "native"],
        Meta(description="native = our own, on the event loop; paho = the library, in a thread"),
    ] = "native"
    client_id: Annotated[
        ClientId | None,
        Meta(description="default: edged-<node>"),
    ] = None
    session_expiry: Annotated[
        Duration, Meta(description="how long the broker keeps messages for us while we are away")
    ] = Duration(24 * 3600 * 1_000_000_000)
    base: Annotated[
        Annotated[str, Meta(pattern=r"^[^#+\x00]{1,128}\Z")] | None,
        Meta(description="prefix of our topics; default: edged/<node>"),
    ] = None
    questions: Annotated[
        tuple[Literal["models", "manifest", "status"], ...],
        Meta(
            description="what whoever may publish to <base>/req/... can ask; all only read; "
            "default: nothing"
        ),
    ] = ()
    desired: DesiredConfig | None = None
    report: Annotated[
        Duration,
        Meta(description="how often <base>/metrics says what edged mqtt status shows; 0 = never"),
    ] = Duration(0)
    step_back: Annotated[
        bool,
        Meta(
            description="leave the groups of shared filters while all places are "
            "taken; at least one member of each group must not"
        ),
    ] = False
    sparkplug: SparkplugNodeConfig | None = None
    results: ResultsConfig | None = None
    outbox: OutboxConfig = OutboxConfig()

    def files(self) -> tuple[tuple[str, Path], ...]:
        """Field paths, and the secrets, certificates and keys that they name."""
        own = broker_files(self, "mqtt")
        theirs = broker_files(self.results, "mqtt.results") if self.results is not None else ()
        keys = self.desired.keys if self.desired is not None else ()
        signers = ((f"mqtt.desired.keys[{index}]", key) for index, key in enumerate(keys))
        return (*own, *theirs, *signers)
