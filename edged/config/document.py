"""A configuration file as a tree of texts with places, before anything knows what they mean.

Decides how several files become one: mappings merge, lists are appended, everything else may be
said once. Never reads a file, never knows YAML or the schema.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from edged.config.problems import Mark, Problem, field_path, problem_at


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value; ``plain`` when it had no quotes, ``written`` when its text came in later."""

    mark: Mark
    text: str
    plain: bool
    written: str = ""

    @property
    def is_null(self) -> bool:
        """Says nothing: empty, ``~`` or ``null`` without quotes."""
        return self.plain and self.text in ("", "~", "null")


@dataclass(frozen=True, slots=True)
class ListNode:
    """Values in order."""

    mark: Mark
    items: list[Node] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Entry:
    """One ``key: value`` of a mapping."""

    key: Mark
    value: Node


@dataclass(frozen=True, slots=True)
class MapNode:
    """Values by name, in the order written."""

    mark: Mark
    entries: dict[str, Entry] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Broken:
    """A place whose problem was already reported; nobody complains a second time."""

    mark: Mark


Node = Scalar | ListNode | MapNode | Broken


def merge(documents: list[MapNode]) -> tuple[MapNode, list[Problem]]:
    """Make one document of several, in order.

    Args:
        documents: at least one; none is changed.

    Returns:
        The merged document (the first of two values where two were given), and a problem naming
        both places for every value given twice.
    """
    problems: list[Problem] = []
    merged = documents[0]
    for document in documents[1:]:
        merged = _merge_maps(merged, document, "", problems)
    return merged, problems


def _merge_maps(first: MapNode, second: MapNode, path: str, problems: list[Problem]) -> MapNode:
    entries = dict(first.entries)
    for key, entry in second.entries.items():
        here = field_path(path, key)
        known = entries.get(key)
        if known is None:
            entries[key] = entry
        elif isinstance(known.value, MapNode) and isinstance(entry.value, MapNode):
            if path in ("models", "pipelines"):
                problems.append(_twice(here, known, entry))
            else:
                entries[key] = Entry(
                    known.key, _merge_maps(known.value, entry.value, here, problems)
                )
        elif isinstance(known.value, ListNode) and isinstance(entry.value, ListNode):
            joined = ListNode(known.value.mark, [*known.value.items, *entry.value.items])
            entries[key] = Entry(known.key, joined)
        elif not isinstance(known.value, Broken) and not isinstance(entry.value, Broken):
            problems.append(_twice(here, known, entry))
    return MapNode(first.mark, entries)


def _twice(path: str, first: Entry, second: Entry) -> Problem:
    return problem_at(
        second.key,
        path,
        f"is already set at {first.key}; say it in one of the two places only",
    )
