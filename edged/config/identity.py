"""What this node is called, where the configuration leaves it to the host.

Decides the defaults of node, base topic and client id, in one place for daemon, checks and docs.
"""

from __future__ import annotations

import re
import socket

from edged.config.schema import Config

_FOREIGN = re.compile(r"[^A-Za-z0-9_-]+")


def node_name(config: Config, host: str | None = None) -> str:
    """``node``, or the host's name with foreign characters as dashes.

    Args:
        config: the configuration.
        host: the host's name; default: asked from the system.
    """
    if config.node is not None:
        return config.node
    name = _FOREIGN.sub("-", socket.gethostname() if host is None else host).strip("-_")
    return name[:64] or "edged"


def base_topic(config: Config, host: str | None = None) -> str:
    """``mqtt.base``, or ``edged/<node>``; without a slash at the end."""
    base = config.mqtt.base if config.mqtt is not None else None
    return f"edged/{node_name(config, host)}" if base is None else base.rstrip("/")


def client_id(config: Config, host: str | None = None) -> str:
    """``mqtt.client_id``, or ``edged-<node>``; at most 64 characters."""
    chosen = config.mqtt.client_id if config.mqtt is not None else None
    return f"edged-{node_name(config, host)}"[:64] if chosen is None else chosen
