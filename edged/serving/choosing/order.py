"""What is to be loaded, and whether there is a choice in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edged.config.schema import ModelConfig
from edged.loading import entries_for, find_entries
from edged.runtimes.registry import names_of
from edged.store.stored import Stored


@dataclass(frozen=True, slots=True)
class LoadOrder:
    """What to load.

    Args:
        digest: of the manifest.
        stored: the verified bundle.
        config: the model's section of the configuration.
        avoid: runtimes that are to be left out, and why.
    """

    digest: str
    stored: Stored
    config: ModelConfig
    avoid: Mapping[str, str] = field(default_factory=dict)


def precisions(order: LoadOrder) -> tuple[str, ...]:
    """The precisions to choose from, as the bundle lists them; empty where there is no choice."""
    for name in with_several(order)[:1]:
        entries = entries_for(order.stored.manifest, name)
        return tuple(dict.fromkeys(entry.precision for entry in entries))
    return ()


def with_several(order: LoadOrder) -> list[str]:
    """The runtimes of the model's list that the bundle has several precisions for."""
    manifest = order.stored.manifest
    return [n for n in names_of(order.config.runtime) if len(find_entries(manifest, n)) > 1]
