"""The schema said aloud: every field with its type, default and description.

Decides the wording of ``edged check --explain``. Reads the schema only, so what it prints cannot
differ from what is accepted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, get_args

import msgspec
from msgspec import NODEFAULT

from edged.config.convert import Option, describe, is_list, is_map, is_struct, options
from edged.config.problems import field_path
from edged.config.scalars import format_value
from edged.config.schema import Config


class FieldInfo(NamedTuple):
    """One field of the configuration.

    Args:
        path: with ``<name>`` for a name of the operator's choice and ``[]`` for a list entry.
        type: what is accepted, in words.
        default: as it would be written; None when the field must be given.
        description: one sentence; may be empty.
    """

    path: str
    type: str
    default: str | None
    description: str


def explain() -> Iterator[FieldInfo]:
    """Every field, sections before what they hold, in the order of the schema."""
    return _fields(Config, "")


def format_explanation() -> str:
    """The fields as text for a terminal."""
    lines: list[str] = []
    for item in explain():
        default = "required" if item.default is None else f"default: {item.default}"
        lines.append(f"{item.path}\n    {item.type} ({default})")
        if item.description:
            lines.append(f"    {item.description}")
    return "\n".join(lines)


def _fields(cls: Any, path: str) -> Iterator[FieldInfo]:
    for item in msgspec.structs.fields(cls):
        here = field_path(path, item.encode_name)
        choices = options(item.type)
        yield FieldInfo(here, _type(choices), _default(item), description(choices))
        for choice in choices:
            yield from _inside(choice.base, here)


def _inside(base: Any, path: str) -> Iterator[FieldInfo]:
    if is_struct(base):
        yield from _fields(base, path)
    elif is_map(base):
        for option in options(get_args(base)[1]):
            yield from _inside(option.base, f"{path}.<name>")
    elif is_list(base):
        for option in options(get_args(base)[0]):
            yield from _inside(option.base, f"{path}[]")


def _type(choices: Sequence[Option]) -> str:
    words = []
    for option in choices:
        if is_struct(option.base):
            words.append("a mapping")
        elif is_list(option.base):
            words.append(f"a list of {describe(options(get_args(option.base)[0]))}")
        elif option.base is not type(None):
            words.append(describe([option]))
    return " or ".join(words)


def _default(item: Any) -> str | None:
    if item.default is not NODEFAULT:
        if is_struct(type(item.default)):
            return "{}"
        return format_value(item.default)
    if item.default_factory is not NODEFAULT:
        return format_value(item.default_factory())
    return None


def description(choices: Sequence[Option]) -> str:
    """What a field is for: its own words, else its section's."""
    for option in choices:
        for meta in option.metas:
            if meta.description:
                return meta.description
    for option in choices:
        if is_struct(option.base):
            return (option.base.__doc__ or "").strip().split("\n")[0]
    return ""
