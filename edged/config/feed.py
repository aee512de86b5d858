"""What an operator says about answers that are published though no message asked for them."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from edged.config.broker import Durability
from edged.config.section import Section
from edged.specs import OutputSpec, Size


class FeedConfig(Section, frozen=True, kw_only=True):
    """Answers to sockets, HTTP and gRPC are published too, by way of the outbox."""

    to: Annotated[str, Meta(description="topic of the answers; {model} stands for its name")]
    qos: Annotated[int, Meta(ge=0, le=1, description="of the answers")] = 1
    retain: Annotated[bool, Meta(description="the broker keeps the last answer")] = False
    output: OutputSpec = OutputSpec()
    when_full: Annotated[
        Literal["drop_oldest", "latest_only"],
        Meta(description="what a full outbox does; latest_only = always only the newest waits"),
    ] = "drop_oldest"
    durability: Annotated[
        Durability, Meta(description="async = the disk is not asked whether it has it")
    ] = "fsync"
    max_size: Annotated[
        Size,
        Meta(description="bytes of an answer's tensors; larger ones are counted and left out"),
    ] = Size(64 << 10)
