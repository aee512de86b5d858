"""Whether what a binding says as Sparkplug goes together with the rest of it."""

from __future__ import annotations

from collections.abc import Iterator

from edged.config.binding import BindingConfig
from edged.config.identity import node_name
from edged.config.publish_check import key_problems
from edged.config.schema import Config


def sparkplug_problems(
    config: Config, binding: BindingConfig, path: str
) -> Iterator[tuple[str, str]]:
    """Field paths and what is wrong there.

    Args:
        config: the whole.
        binding: one of it.
        path: of the binding.
    """
    sparkplug = binding.sparkplug
    if sparkplug is None:
        return
    here = f"{path}.sparkplug"
    if config.mqtt is not None and config.mqtt.sparkplug is None:
        yield here, "needs a node that says it; add `sparkplug: {group: NAME}` below mqtt"
    if binding.stream:
        yield here, "cannot show pieces of a text; remove it, or `stream`"
    if binding.to is None and (binding.join or binding.window or binding.sequence):
        yield here, "of a window, a join or a sequence is said beside `to`; add it"
    if "/" in sparkplug.device:
        yield f"{here}.device", "is one level of a topic; write it without a slash"
    yield from key_problems(sparkplug.device, binding.from_, f"{here}.device")


def own_sparkplug_topics(config: Config) -> tuple[str, ...]:
    """What the daemon's node publishes, and is told, as a filter."""
    if config.mqtt is None or config.mqtt.sparkplug is None:
        return ()
    node = config.mqtt.sparkplug
    name = node.node or node_name(config)
    return f"spBv1.0/{node.group}/+/{name}", f"spBv1.0/{node.group}/+/{name}/+"
