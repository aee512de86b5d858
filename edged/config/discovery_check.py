"""Whether what a binding says to Home Assistant goes together with the rest of it."""

from __future__ import annotations

from collections.abc import Iterator

from edged.config.binding import BindingConfig
from edged.config.publish_check import key_problems

_MOST_NS = 600 * 10**9


def discovery_problems(binding: BindingConfig, path: str) -> Iterator[tuple[str, str]]:
    """Field paths and what is wrong there.

    Args:
        binding: as written.
        path: of the binding.
    """
    discovery = binding.discovery
    if discovery is None:
        return
    here = f"{path}.discovery"
    if binding.to is None:
        yield here, "tells of a topic with answers; add `to:`"
    if binding.stream:
        yield here, "cannot show pieces of a text; remove it, or `stream`"
    if binding.output.codec != "json":
        yield here, f"reads JSON, but output.codec is {binding.output.codec}; remove one of them"
    if discovery.delay > _MOST_NS:
        yield f"{here}.delay", "is outside what can work; expected at most 600s"
    yield from key_problems(discovery.device, binding.from_, f"{here}.device")
