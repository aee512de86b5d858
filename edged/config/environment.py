"""``${NAME}`` in values: what the daemon's environment says, for those names that a file lists.

Decides what is put in, and refuses what is not listed. Values are not hidden, and are part of the
digest: a password is a ``{secret: NAME}``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated

from msgspec import Meta

from edged.config.document import Entry, ListNode, MapNode, Node, Scalar
from edged.config.problems import Problem, did_you_mean, field_path, problem_at, quote

LIST = "environment"
VariableName = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}\Z")]
_FIXED = (LIST, "state_dir")
"""The state is looked for also when nothing else of the files can be read."""
_PLACE = re.compile(r"\$\$\{|\$\{([^{}]*)\}")
_WORDS = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.ASCII | re.DOTALL)
_LONGEST = 4096


@dataclass(slots=True)
class Substitution:
    """A document with its variables put in.

    Args:
        root: the document.
        used: each variable that a value used, with what it says; empty ones among them.
        problems: in the order met.
    """

    root: MapNode
    used: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def substitute(root: MapNode, environ: Mapping[str, str]) -> Substitution:
    """Put in what the environment says; nothing is looked at unless the document lists a name.

    Args:
        root: the whole document; not changed.
        environ: of the process.
    """
    entry = root.entries.get(LIST)
    done = Substitution(root)
    if entry is None or not isinstance(entry.value, ListNode):
        return done  # left out, or refused where its type is looked at
    listed = {item.text for item in entry.value.items if isinstance(item, Scalar)}
    if listed:
        done.root = _Walk(listed, environ, done).document(root)
    return done


class _Walk:
    def __init__(self, listed: set[str], environ: Mapping[str, str], done: Substitution) -> None:
        self._listed = listed
        self._environ = environ
        self._done = done

    def document(self, root: MapNode) -> MapNode:
        entries = {
            key: entry if key in _FIXED else Entry(entry.key, self._node(entry.value, key))
            for key, entry in root.entries.items()
        }
        return MapNode(root.mark, entries)

    def _node(self, node: Node, path: str) -> Node:
        if isinstance(node, Scalar):
            return self._scalar(node, path) if "${" in node.text else node
        if isinstance(node, ListNode):
            items = [self._node(item, field_path(path, i)) for i, item in enumerate(node.items)]
            return ListNode(node.mark, items)
        if isinstance(node, MapNode):
            entries = {
                key: Entry(entry.key, self._node(entry.value, field_path(path, key)))
                for key, entry in node.entries.items()
            }
            return MapNode(node.mark, entries)
        return node

    def _scalar(self, node: Scalar, path: str) -> Scalar:
        text = _PLACE.sub(lambda match: self._said(match, node, path), node.text)
        return replace(node, text=text, written=node.text)

    def _said(self, match: re.Match[str], node: Scalar, path: str) -> str:
        inside = match[1]
        if inside is None:
            return "${"
        words = _WORDS.fullmatch(inside)
        if words is None:
            return self._refuse(node, path, f"{quote(match[0])} names no variable")
        name, default = words[1], words[2]
        if name not in self._listed:
            near = did_you_mean(name, sorted(self._listed))
            text = f"${{{name}}} is not listed in `{LIST}`{near}; list it there, or write $${{"
            return self._refuse(node, path, text)
        value = self._environ.get(name) or default
        if value is None:
            text = f"${{{name}}} is not set where this runs; set it, or write ${{{name}:-DEFAULT}}"
            return self._refuse(node, path, text)
        if len(value) > _LONGEST or not value.isprintable():
            text = f"${{{name}}} holds what no value may (a line end, or more than {_LONGEST})"
            return self._refuse(node, path, text)
        self._done.used[name] = value
        return value

    def _refuse(self, node: Scalar, path: str, text: str) -> str:
        self._done.problems.append(problem_at(node.mark, path, text))
        return ""
