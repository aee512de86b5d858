"""Where a session's nodes ended up: on the device that was asked for, or left to the processor.

A runtime that can tell gives its sessions ``placed``, which counts nodes by operator, on the device
and on the processor; workers hand it on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_NAMED = 6
"""So many kinds of operators are named to people; a model has at most some dozens."""


@dataclass(frozen=True, slots=True)
class Placed:
    """See above.

    Args:
        on_device: nodes on the device.
        on_cpu: nodes on the processor, by operator, the commonest first.
    """

    on_device: int
    on_cpu: Mapping[str, int]

    @property
    def cpu_nodes(self) -> int:
        """Nodes on the processor."""
        return sum(self.on_cpu.values())

    def as_dict(self) -> dict[str, object]:
        """For the status page."""
        return {"on_device": self.on_device, "on_cpu": dict(self.on_cpu)}


def placed_of(session: object) -> Placed | None:
    """What a session says; None where nobody asked or the backend does not tell."""
    found = getattr(session, "placed", None)
    if not isinstance(found, tuple):
        return None
    device, cpu = found
    by_count = sorted(cpu.items(), key=lambda one: (-one[1], one[0]))
    return Placed(sum(device.values()), dict(by_count))


def placed_words(on_device: int, on_cpu: Mapping[str, int]) -> str:
    """One sentence; empty where everything is on the device."""
    count = sum(on_cpu.values())
    if not count:
        return ""
    named = [f"{number} {kind}" for kind, number in list(on_cpu.items())[:_NAMED]]
    kinds = ", ".join([*named, "…"] if len(on_cpu) > _NAMED else named)
    return f"{count} of {on_device + count} nodes run on the CPU: {kinds}"
