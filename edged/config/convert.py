"""The walk over tree and schema together: texts with places become a Config, or problems.

Decides what each field accepts by looking at the struct's types; it goes on after a problem, so one
run reports them all. Never reads a file and never compares one field with another (``check.py``).
"""

from __future__ import annotations

import functools
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

from edged.config.broker import Secret
from edged.config.document import Broken, ListNode, MapNode, Node, Scalar
from edged.config.problems import Mark, Problem, did_you_mean, field_path, problem_at, quote
from edged.config.scalars import FAILED, expectation, read_scalar
from edged.config.schema import Config
from edged.system.breath import breathe

T = TypeVar("T", bound=Struct)


@dataclass(frozen=True, slots=True)
class Draft:
    """What could be converted.

    Args:
        config: complete when there are no problems; otherwise fields with problems have their
            default, broken bindings are None in their place, and broken models are missing.
        marks: field path -> place, for every field that was written.
        problems: in the order met.
    """

    config: Config
    marks: dict[str, Mark]
    problems: list[Problem] = field(default_factory=list)

    @property
    def broken_bindings(self) -> frozenset[int]:
        """Indices of bindings that could not be converted."""
        items: tuple[Any, ...] = self.config.bindings
        return frozenset(index for index, item in enumerate(items) if item is None)


class Option(NamedTuple):
    """One type that a field accepts, with the constraints upon it."""

    base: Any
    metas: tuple[Meta, ...]
    narrowed: tuple[Any, ...]
    """The type under each of the constraints, where msgspec is to look at the value."""


def convert_config(root: MapNode) -> Draft:
    """Convert a whole document.

    Args:
        root: the merged tree.
    """
    walk = _Walk()
    walk.marks[""] = root.mark
    config = walk.structure(root, Config, "")
    if config is FAILED:
        config = Config()
    return Draft(config, walk.marks, walk.problems)


def convert_struct(root: MapNode, cls: type[T]) -> tuple[T | None, dict[str, Mark], list[Problem]]:
    """Convert a document of another kind than the daemon's configuration.

    Args:
        root: the tree.
        cls: the struct it should be.

    Returns:
        The struct, or None when something in it is missing or unusable; field path -> place; and
        the problems.
    """
    walk = _Walk()
    walk.marks[""] = root.mark
    value = walk.structure(root, cls, "")
    return None if value is FAILED else value, walk.marks, walk.problems


def options(annotation: Any, outer: tuple[Meta, ...] = ()) -> tuple[Option, ...]:
    """The types a field accepts: unions are opened, ``Annotated`` becomes constraints.

    Args:
        annotation: a type as msgspec reports it.
        outer: constraints from around it.
    """
    if get_origin(annotation) is Annotated:
        inner, *extras = get_args(annotation)
        metas = tuple(extra for extra in extras if isinstance(extra, Meta))
        return options(inner, (*outer, *metas))
    if get_origin(annotation) in (Union, types.UnionType):
        members = get_args(annotation)
        return tuple(option for member in members for option in options(member, outer))
    is_number_or_text = annotation in (str, int, float)
    narrowed = tuple(Annotated[annotation, meta] for meta in outer) if is_number_or_text else ()
    return (Option(annotation, outer, narrowed),)


def describe(choices: Sequence[Option]) -> str:
    """What a field wants, in words."""
    return " or ".join(_describe_one(option) for option in choices if not _is_none(option))


def is_struct(base: Any) -> bool:
    """True for a class of fields."""
    return isinstance(base, type) and issubclass(base, Struct)


@functools.cache
def is_list(base: Any) -> bool:
    """True for ``tuple[X, ...]``."""
    return get_origin(base) is tuple


@functools.cache
def is_map(base: Any) -> bool:
    """True for ``dict[str, X]``."""
    return get_origin(base) is dict


def _is_none(option: Option) -> bool:
    return option.base is type(None)


def _describe_one(option: Option) -> str:
    if is_struct(option.base):
        names = [item.encode_name for item in msgspec.structs.fields(option.base)]
        return "a mapping with " + ", ".join(names)
    if is_map(option.base):
        return "a mapping of names to values"
    if is_list(option.base):
        return "a list"
    return expectation(option.base, option.metas)


class _Field(NamedTuple):
    """A field of a struct as documents name it."""

    name: str
    required: bool
    choices: tuple[Option, ...]


@functools.cache
def _fields(cls: Any) -> Mapping[str, _Field]:
    """By the name in documents; asking msgspec evaluates annotations each time, so ask once."""
    return {
        item.encode_name: _Field(item.name, item.required, options(item.type))
        for item in msgspec.structs.fields(cls)
    }


@functools.cache
def _inside(base: Any) -> tuple[tuple[Option, ...], ...]:
    """What the parameters of a list's or mapping's type accept."""
    return tuple(options(inner) for inner in get_args(base))


class _Walk:
    """Collects problems and places on the way through the tree."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.marks: dict[str, Mark] = {}
        self._is_hidden = False  # inside a secret no value is repeated

    def structure(self, node: MapNode, cls: Any, path: str) -> Any:
        """A struct from a mapping; FAILED when a required field is missing or unusable."""
        fields = _fields(cls)
        values: dict[str, Any] = {}
        usable = True
        for key, entry in node.entries.items():
            here = field_path(path, key)
            known = fields.get(key)
            if known is None:
                self._unknown(entry.key, here, key, list(fields))
                continue
            self.marks[here] = entry.key
            self._is_hidden = cls is Secret
            value = self.value(entry.value, known.choices, here)
            self._is_hidden = False
            if value is not FAILED:
                values[known.name] = value
            elif known.required:
                usable = False
        for key, item in fields.items():
            if item.required and key not in node.entries:
                usable = False
                wanted = f"needs {quote(key)}: {describe(item.choices)}"
                self.problems.append(problem_at(self.marks.get(path, node.mark), path, wanted))
        return cls(**values) if usable else FAILED

    def value(self, node: Node, choices: Sequence[Option], path: str) -> Any:
        """A value of the one type among ``choices`` that fits the kind of node."""
        breathe()
        if isinstance(node, Broken):
            return FAILED
        if isinstance(node, Scalar):
            return self._scalar(node, choices, path)
        if isinstance(node, ListNode):
            fit = next((option for option in choices if is_list(option.base)), None)
            if fit is not None:
                return self._items(node, fit, path)
            return self._mismatch(node.mark, "a list", choices, path)
        for option in choices:
            if is_struct(option.base):
                return self.structure(node, option.base, path)
            if is_map(option.base):
                return self._mapping(node, option, path)
        return self._mismatch(node.mark, "a mapping", choices, path)

    def _scalar(self, node: Scalar, choices: Sequence[Option], path: str) -> Any:
        if path and not path.endswith("]"):
            self.marks[path] = node.mark
        if node.is_null and any(_is_none(option) for option in choices):
            return None
        for option in choices:
            value = read_scalar(node, option.base)
            if value is not FAILED:
                return self._constrained(node, value, option, choices, path)
        return self._mismatch(node.mark, self._found(node, choices), choices, path)

    def _constrained(
        self, node: Scalar, value: Any, option: Option, choices: Sequence[Option], path: str
    ) -> Any:
        for narrowed in option.narrowed:
            try:
                msgspec.convert(value, narrowed, strict=True)
            except msgspec.ValidationError:
                return self._mismatch(node.mark, self._found(node, choices), choices, path)
        return value

    def _items(self, node: ListNode, option: Option, path: str) -> Any:
        inner = _inside(option.base)[0]
        values = []
        for index, item in enumerate(node.items):
            here = field_path(path, index)
            self.marks[here] = item.mark
            values.append(self.value(item, inner, here))
        for meta in option.metas:
            low, high = meta.min_length or 0, meta.max_length
            if len(values) < low or (high is not None and len(values) > high):
                return self._mismatch(node.mark, f"{len(values)} entries", [option], path)
        if path == "bindings":
            return tuple(None if value is FAILED else value for value in values)
        return FAILED if any(value is FAILED for value in values) else tuple(values)

    def _mapping(self, node: MapNode, option: Option, path: str) -> Any:
        key_options, inner = _inside(option.base)
        values = {}
        for key, entry in node.entries.items():
            here = field_path(path, key)
            self.marks[here] = entry.key
            name = Scalar(entry.key, key, plain=False)
            if self.value(name, key_options, here) is FAILED:
                continue
            value = self.value(entry.value, inner, here)
            if value is not FAILED:
                values[key] = value
        return values

    def _unknown(self, mark: Mark, path: str, key: str, known: list[str]) -> None:
        near = did_you_mean(key, known)
        message = f"unknown name {quote(key)}{near}; known here: {', '.join(known)}"
        self.problems.append(problem_at(mark, path, message))

    def _mismatch(self, mark: Mark, found: str, choices: Sequence[Option], path: str) -> Any:
        message = f"found {found}; expected {describe(choices)}"
        self.problems.append(problem_at(mark, path, message))
        return FAILED

    def _found(self, node: Scalar, choices: Sequence[Option]) -> str:
        """The value with the nearest allowed word; what may be a secret is not repeated."""
        if node.is_null:
            return node.text or "nothing"
        if self._is_hidden or any(option.base is Secret for option in choices):
            return "a value (not shown: it may be a secret)"
        words = [str(word) for option in choices for word in _words(option.base)]
        near = did_you_mean(_translated(node.text, choices), words)
        is_quoted = not node.plain and any(option.base in (int, float, bool) for option in choices)
        return quote(node.written or node.text) + near + (" in quotes" if is_quoted else "")


def _words(base: Any) -> tuple[Any, ...]:
    if base is bool:
        return ("true", "false")
    return get_args(base) if get_origin(base) is Literal else ()


def _translated(text: str, choices: Sequence[Option]) -> str:
    """yes, no, on and off are truths in other YAML dialects; say which of ours is meant."""
    if any(option.base is bool for option in choices):
        folded = text.lower()
        return {"yes": "true", "on": "true", "1": "true", "no": "false", "off": "false"}.get(
            folded, folded
        )
    return text
