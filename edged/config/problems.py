"""What is wrong with a configuration, and where: words for people with an editor open.

Decides how a problem is worded and sorted. Never reads a file and never knows YAML.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from edged.errors import ConfigError


class Mark(NamedTuple):
    """A place in a file; line and column count from 1, and 0 means the file as a whole."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


class Problem(NamedTuple):
    """One thing to correct.

    Args:
        file: the file as the operator knows it.
        line: counted from 1; 0 when the whole file is meant.
        column: likewise.
        path: the field, as ``models.digits.bundle``; empty when no field is meant.
        message: what was found, what was expected, what to do.
    """

    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        where = str(Mark(self.file, self.line, self.column))
        whole = ": ".join(part for part in (where, self.path, self.message) if part)
        return whole if whole.isprintable() else "".join(map(_shown, whole))


def _shown(character: str) -> str:
    """A file's name may hold what moves a terminal's cursor, or bytes that are no character."""
    is_fine = character.isprintable() or character == "\n"
    return character if is_fine else ascii(character)[1:-1]


def problem_at(mark: Mark, path: str, message: str) -> Problem:
    """A problem at a mark."""
    return Problem(mark.file, mark.line, mark.column, path, message)


class ConfigProblemsError(ConfigError):
    """A configuration was refused; carries every problem found, in the order of the files.

    Args:
        problems: at least one.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def field_path(parent: str, key: str | int) -> str:
    """``parent.key``, ``parent[3]``, or ``parent["a.b"]`` for a name that has dots.

    Raises:
        Nothing.
    """
    if isinstance(key, int):
        return f"{parent}[{key}]"
    if "." in key or "[" in key:
        return f'{parent}["{key}"]'
    return f"{parent}.{key}" if parent else key


def parent_path(path: str) -> str:
    """The field that holds ``path``; empty for a top-level one."""
    if path.endswith('"]'):
        return path[: path.rfind('["')]
    cut = max(path.rfind("."), path.rfind("["))
    return path[:cut] if cut > 0 else ""


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """`` (did you mean "x"?)`` for the nearest known word, or nothing."""
    folded = {name.lower().replace("-", "_"): name for name in known}
    near = difflib.get_close_matches(word.lower().replace("-", "_")[:64], folded, n=1, cutoff=0.6)
    return f' (did you mean "{folded[near[0]]}"?)' if near else ""


def quote(text: str) -> str:
    """``text`` in double quotes on one line, shortened, without control characters."""
    shown = text if len(text) <= 60 else text[:57] + "..."
    return '"' + "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in shown) + '"'
