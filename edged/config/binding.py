"""What an operator says about one binding: a way from a topic through a model to a topic.

Words only; what they mean together is ``check.py``'s, how they run is for
``transports/bindings/binding_set.py``.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edged.config.broker import Durability, WhenFull
from edged.config.brokers import BrokerName
from edged.config.discovery import DiscoveryConfig
from edged.config.keyed import JoinConfig, MessageSequenceConfig, WindowConfig
from edged.config.payload import Acceptable, Compression, MaxAgeConfig, ProtobufConfig
from edged.config.publish import PublishConfig
from edged.config.section import Section
from edged.config.sparkplug import SparkplugConfig
from edged.specs import Duration, FieldSpec, OutputSpec

SessionName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,15}\Z", examples=["line-2"])]
BindingName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}\Z", examples=["gate-1"])]


class BindingConfig(Section, frozen=True, kw_only=True):
    """One way from a topic through a model to a topic."""

    name: Annotated[BindingName, Meta(description="unique; stands in logs and dead letters")]
    from_: Annotated[str, Meta(description="topic filter with named levels, {site}")] = (
        msgspec.field(name="from")
    )
    to: Annotated[
        str | None, Meta(description="topic for results, may use {level}; none: reply-to only")
    ] = None
    model: Annotated[str, Meta(description="NAME, NAME@RELEASE or NAME@ALIAS")]
    broker: Annotated[
        BrokerName | None, Meta(description="which brings the messages; default: that of mqtt")
    ] = None
    results: Annotated[
        BrokerName | None,
        Meta(description="which gets the answers on `to`, or mqtt; default: as the other one"),
    ] = None
    qos: Annotated[int, Meta(ge=0, le=1, description="of the subscription and of results")] = 1
    answer_qos: Annotated[
        Annotated[int, Meta(ge=0, le=2)] | None,
        Meta(description="of answers on `to`, where it is another than qos; 2 = by the disk"),
    ] = None
    retain: Annotated[bool, Meta(description="the broker keeps the last result")] = False
    codec: Annotated[
        Literal[
            "json", "cbor", "msgpack", "protobuf", "sparkplug", "tensor", "image", "raw", "auto"
        ],
        Meta(description="how a payload becomes tensors; auto = as its Content Type says"),
    ] = "json"
    accept: Annotated[
        tuple[Acceptable, ...],
        Meta(
            max_length=8,
            description="what auto chooses from, the first for messages without a type; default: "
            "json, cbor, msgpack",
        ),
    ] = ()
    schema: ProtobufConfig | None = None
    compression: Annotated[
        Compression,
        Meta(description="of payloads; auto = gzip, zstd or none, as their first bytes say"),
    ] = "none"
    max_age: MaxAgeConfig | None = None
    input: Annotated[str | None, Meta(description="which to fill; default: the only one")] = None
    fields: Annotated[
        tuple[str | FieldSpec, ...], Meta(description="paths of the columns, in order")
    ] = ()
    output: OutputSpec = OutputSpec()
    sequence: MessageSequenceConfig | None = None
    window: WindowConfig | None = None
    join: Annotated[
        tuple[JoinConfig, ...],
        Meta(description="other topics, whose columns follow those of `from`"),
    ] = ()
    session: Annotated[
        SessionName | None,
        Meta(
            description="name of a connection of its own, for all bindings that say the same; "
            "a slow model there delays no other"
        ),
    ] = None
    publish: PublishConfig | None = None
    discovery: DiscoveryConfig | None = None
    sparkplug: SparkplugConfig | None = None
    stream: Annotated[bool, Meta(description="a message for each piece of a text")] = False
    timeout: Annotated[
        Duration, Meta(description="deadline of a message that carries no expiry of its own")
    ] = Duration(10_000_000_000)
    when_full: Annotated[
        WhenFull,
        Meta(
            description="what a full outbox does: block = requests wait un-acknowledged, "
            "drop_oldest, latest_only = always only the newest of each topic"
        ),
    ] = "block"
    durability: Annotated[
        Durability,
        Meta(description="async = acknowledged before the disk has it; a power cut may lose it"),
    ] = "fsync"

    @property
    def sent_qos(self) -> int:
        """Of answers on ``to``."""
        return self.qos if self.answer_qos is None else self.answer_qos
