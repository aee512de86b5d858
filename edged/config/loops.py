"""Finds the filters that a template could reach, without comparing each with each.

Decides nothing but candidates; ``topics.can_match`` has the last word. A site has thousands of
bindings, and thousands squared are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from edged.topics import TopicFilter, TopicTemplate, can_match


@dataclass(slots=True)
class _Branch:
    """Filters by their next level; ``#`` also ends here."""

    children: dict[str, _Branch] = field(default_factory=dict)
    ends: list[int] = field(default_factory=list)


class FilterTree:
    """Filters by level; each has a number."""

    def __init__(self) -> None:
        self._root = _Branch()
        self._filters: dict[int, TopicFilter] = {}

    def add(self, number: int, topic_filter: TopicFilter) -> None:
        """Put in a filter."""
        self._filters[number] = topic_filter
        branch = self._root
        for level in topic_filter.plain.split("/"):
            branch = branch.children.setdefault(level, _Branch())
        branch.ends.append(number)

    def reached_by(self, template: TopicTemplate) -> list[int]:
        """The numbers of filters that some rendering of the template matches, in order."""
        found: list[int] = []
        branches = [self._root]
        for level in template.source.split("/"):
            following: list[_Branch] = []
            for branch in branches:
                found += _rest(branch)
                if level.startswith("{"):
                    following += [child for key, child in branch.children.items() if key != "#"]
                else:
                    following += [
                        branch.children[key] for key in (level, "+") if key in branch.children
                    ]
            branches = following
        for branch in branches:
            found += branch.ends + _rest(branch)
        return sorted(number for number in found if can_match(template, self._filters[number]))


def _rest(branch: _Branch) -> list[int]:
    """Filters that end in ``#`` below this level."""
    return branch.children["#"].ends if "#" in branch.children else []
