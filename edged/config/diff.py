"""What is different between two configurations, field by field, for people and for planning.

Decides what counts as the same thing: models and bindings by their name, everything else by its
place. Pure; never decides what to do about a change.
"""

from __future__ import annotations

import functools
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from msgspec import Struct

from edged.config.binding import BindingConfig
from edged.config.problems import field_path
from edged.config.scalars import format_value
from edged.config.schema import Config

Action = Literal["add", "remove", "change"]


@dataclass(frozen=True, slots=True)
class Change:
    """One difference.

    Args:
        action: add and remove speak of models, bindings, aliases and optional sections; everything
            else changes.
        path: the field; a binding stands under its name, as ``bindings.speech.to``.
        before: the old value; None when added.
        after: the new value; None when removed.
    """

    action: Action
    path: str
    before: Any
    after: Any


_LATER = "   (takes effect after a restart)"
_SIGNS: dict[Action, str] = {"add": "+", "remove": "-", "change": "~"}


def diff(old: Config, new: Config) -> list[Change]:
    """Every difference, in the order of the schema; names in order of the alphabet.

    A changed order of bindings is no difference: each message goes to every binding that matches.
    """
    return list(_structs(old, new, ""))


def format_changes(changes: Iterable[Change], at_start: Container[str] = ()) -> str:
    """One line a change, as ``~ models.digits.bundle: a -> b``; empty for no change.

    Args:
        changes: the differences.
        at_start: paths that a daemon that runs goes by after a restart only.
    """
    return "\n".join(
        _line(change) + (_LATER if change.path in at_start else "") for change in changes
    )


def _line(change: Change) -> str:
    start = f"{_SIGNS[change.action]} {change.path}"
    if change.action == "change":
        return f"{start}: {format_value(change.before)} -> {format_value(change.after)}"
    value = change.after if change.action == "add" else change.before
    if isinstance(value, Struct):
        said = ", ".join(_written(value))
        return f"{start}: {{{said}}}" if said else start
    return f"{start}: {format_value(value)}"


def _written(value: Struct) -> Iterator[str]:
    """The fields of a struct that are not at their default."""
    for item in _fields(type(value)):
        content = getattr(value, item.name)
        is_default = content == item.default or (
            item.default_factory is not msgspec.NODEFAULT and content == item.default_factory()
        )
        if not is_default:
            yield f"{item.encode_name}: {format_value(content)}"


@functools.cache
def _fields(cls: type[Struct]) -> tuple[Any, ...]:
    """The fields of a struct.

    msgspec evaluates annotations each time: with 200 models, half a second of the event loop.
    """
    return msgspec.structs.fields(cls)


def _structs(old: Struct, new: Struct, path: str) -> Iterator[Change]:
    if old == new:
        return
    for item in _fields(type(old)):
        here = field_path(path, item.encode_name)
        before, after = getattr(old, item.name), getattr(new, item.name)
        if here == "bindings":
            yield from _maps(_by_name(before), _by_name(after), here)
        else:
            yield from _values(before, after, here)


def _values(before: Any, after: Any, path: str) -> Iterator[Change]:
    if isinstance(before, Struct) and isinstance(after, Struct):
        yield from _structs(before, after, path)
    elif isinstance(before, dict) and isinstance(after, dict):
        yield from _maps(before, after, path)
    elif before == after:
        return
    elif before is None and isinstance(after, Struct):
        yield Change("add", path, None, after)
    elif after is None and isinstance(before, Struct):
        yield Change("remove", path, before, None)
    else:
        yield Change("change", path, before, after)


def _maps(old: Mapping[str, Any], new: Mapping[str, Any], path: str) -> Iterator[Change]:
    for name in sorted(old.keys() | new.keys()):
        here = field_path(path, name)
        if name not in old:
            yield Change("add", here, None, new[name])
        elif name not in new:
            yield Change("remove", here, old[name], None)
        else:
            yield from _values(old[name], new[name], here)


def _by_name(bindings: tuple[BindingConfig, ...]) -> dict[str, BindingConfig]:
    return {binding.name: binding for binding in bindings}
