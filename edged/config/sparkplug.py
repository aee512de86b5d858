"""How answers leave as Sparkplug B, as an operator writes it: the node, and a binding's device."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from edged.config.section import Section

NodeId = Annotated[str, Meta(pattern=r"^[^/#+\x00{}]{1,64}\Z")]
"""One level of a topic."""


class SparkplugNodeConfig(Section, frozen=True, kw_only=True):
    """The daemon as an edge node of Sparkplug B, over a session of its own."""

    group: Annotated[NodeId, Meta(description="Sparkplug's group")]
    node: Annotated[NodeId | None, Meta(description="edge node; default: the node's name")] = None
    aliases: Annotated[
        bool, Meta(description="data has numbers for the names that were said at birth")
    ] = False
    primary_host: Annotated[
        NodeId | None,
        Meta(description="id of the host application without which nothing is said"),
    ] = None


class SparkplugConfig(Section, frozen=True, kw_only=True):
    """A binding's answers as metrics of a device."""

    device: Annotated[
        str,
        Meta(min_length=1, max_length=256, description="which device an answer is of, {device}"),
    ]
