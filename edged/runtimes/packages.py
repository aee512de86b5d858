"""What installed packages offer: entry points, by group.

Decides nothing of what they are and imports none of them. Nothing of a bundle is ever looked up
here: code comes with the operator's own ``pip install`` alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


def offered(group: str) -> dict[str, list[EntryPoint]]:
    """The entry points of a group, by name; a name that two packages give has both."""
    from importlib import metadata  # noqa: PLC0415 - brings email along, which nobody else needs

    found: dict[str, list[EntryPoint]] = {}
    for entry in metadata.entry_points(group=group):
        found.setdefault(entry.name, []).append(entry)
    return found
