"""What a Sparkplug node knows of its devices: their metrics as they stand.

Decides nothing; what is said of them, and when, is ``sparkplug_node.py``'s.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from edged.protocol.sparkplug import DataType, Metric

KINDS = {
    "number": DataType.DOUBLE,
    "whole": DataType.INT64,
    "large": DataType.UINT64,
    "flag": DataType.BOOLEAN,
    "text": DataType.STRING,
}
"""What readings are there."""


class Known(NamedTuple):
    """A metric as it stands."""

    kind: DataType
    value: Any
    alias: int | None


@dataclass
class Device:
    """A device: its metrics by binding and name."""

    known: dict[str, dict[str, Known]] = field(default_factory=dict)
    is_born: bool = False
    is_too_large: bool = False
    """For the broker of this connection; tried again when an answer is about it, without a word."""

    def metrics(self, names: Collection[str] | None = None) -> list[Metric]:
        """As they are said at birth; those of some names, with a number where they have one."""
        return [
            Metric(name if names is None or one.alias is None else None, *one)
            for part in self.known.values()
            for name, one in part.items()
            if names is None or name in names
        ]

    def count(self) -> int:
        """Of its metrics."""
        return sum(map(len, self.known.values()))


def fitting(value: Any, kind: DataType) -> Any:
    """A value of a metric's type; anything else is null."""
    if kind is DataType.STRING:
        return None if value is None else str(value)
    if kind is DataType.BOOLEAN:
        return None if value is None else bool(value)
    return value if isinstance(value, int | float) else None
