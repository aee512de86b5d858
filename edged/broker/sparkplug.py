"""The Sparkplug node of the house: made with its session, and ended with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from edged.config.sparkplug import SparkplugNodeConfig

if TYPE_CHECKING:
    from edged.transports.bindings.sparkplug_node import SparkplugNode
    from edged.transports.mqtt.connection import SessionOptions

NAME = "spb"
"""What its session is called behind the client id."""


def open_node(
    config: SparkplugNodeConfig,
    name: str,
    options: SessionOptions,
    client: str,
    on_change: Callable[[], None],
) -> SparkplugNode:
    """A node that connects.

    Args:
        config: as written.
        name: of the edge node, where the configuration has none.
        options: of the session beside which it has its own.
        client: which one speaks to the broker.
        on_change: called when its ``problem`` may have changed.
    """
    from edged.transports.bindings.sparkplug_node import SparkplugNode  # noqa: PLC0415 - only if used
    from edged.transports.mqtt.clients import open_session  # noqa: PLC0415 - only if used

    node = SparkplugNode(
        config.group, config.node or name,
        aliases=config.aliases, host=config.primary_host, on_change=on_change,
    )  # fmt: skip
    # The state of the host is a retained message.
    options = replace(
        options.named(NAME), will=node.death, session_expiry_s=0, max_inflight=8,
        takes_retained=config.primary_host is not None,
    )  # fmt: skip
    node.start(open_session(options, client))
    return node
