"""YAML that people write or send: small, plain values, each key once, said by its line when not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from converters.errors import ConversionError
from converters.paths import check_plain

MAX_NODES = 100_000
"""Values of one YAML text, aliases followed: more is a bomb, not a description."""
MAX_DEPTH = 32

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_small(path: Path, cap_bytes: int, question: str) -> str:
    """A file of a page or so that the user names, as text; links are followed.

    Args:
        path: where it lies.
        cap_bytes: the most it may hold.
        question: what to ask of one that holds more.

    Raises:
        ConversionError: unreadable, a pipe or device, over the cap, or not UTF-8.
    """
    check_plain(path, "file")
    try:
        with path.open("rb") as file:
            data = file.read(cap_bytes + 1)
    except (OSError, ValueError) as exc:
        raise ConversionError(f"{path}: {getattr(exc, 'strerror', None) or exc}") from exc
    if len(data) > cap_bytes:
        raise ConversionError(f"{path}: over {cap_bytes} bytes; {question}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise ConversionError(
            f"{path}, line {line}: byte 0x{data[exc.start]:02x} is not UTF-8; save it as UTF-8"
        ) from exc


def parse_yaml(text: str, where: str) -> dict[str, Any]:
    """A YAML text as plain values.

    Args:
        text: the whole of it.
        where: what messages call it.

    Raises:
        ConversionError: not YAML, a tag that could make objects, a key that comes twice, a bomb,
            or no mapping.
    """
    try:
        _check_events(text, where)
        value = yaml.load(text, Loader=_LOADER)  # noqa: S506  (the safe loader, in C)
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(exc, "problem", None) or getattr(exc, "reason", None) or "cannot be read"
        raise ConversionError(f"{where}{place}: not YAML: {problem}") from exc
    except (ValueError, RecursionError) as exc:  # dates that are none, endless numbers, nesting
        raise ConversionError(f"{where}: not YAML that can be read: {exc}") from exc
    if not isinstance(value, dict):
        raise ConversionError(f"{where}: expected a mapping, found {type(value).__name__}")
    _refuse_bombs(value, where)
    return value


def _check_events(text: str, where: str) -> None:
    """Refuse tags, nesting and keys that come twice, before anything is constructed."""
    open_keys: list[set[str] | None] = []  # of each open collection: its keys; None for a list
    key_next: list[bool] = []
    for nodes, event in enumerate(yaml.parse(text, Loader=_LOADER)):
        line = event.start_mark.line + 1 if event.start_mark is not None else 0
        if isinstance(event, yaml.CollectionEndEvent):
            open_keys.pop()
            key_next.pop()
        elif isinstance(event, yaml.NodeEvent):
            _refuse_tag(event, f"{where}, line {line}")
            keys = open_keys[-1] if open_keys else None
            if keys is not None:
                if key_next[-1] and isinstance(event, yaml.ScalarEvent):
                    if event.value in keys:
                        raise ConversionError(
                            f'{where}, line {line}: "{event.value[:80]}" is given twice'
                        )
                    keys.add(event.value)
                key_next[-1] = not key_next[-1]
            if isinstance(event, yaml.CollectionStartEvent):
                open_keys.append(set() if isinstance(event, yaml.MappingStartEvent) else None)
                key_next.append(True)
        if nodes > MAX_NODES or len(open_keys) > MAX_DEPTH:
            raise ConversionError(f"{where}, line {line}: too many or too deeply nested values")


def _refuse_tag(event: Any, place: str) -> None:
    tag = getattr(event, "tag", None)
    if tag is not None and not str(tag).startswith("tag:yaml.org,2002:str"):
        raise ConversionError(
            f'{place}: the tag "{tag}" asks for an object to be made; only plain text, numbers, '
            "lists and mappings are read"
        )


def _refuse_bombs(value: Any, where: str) -> None:
    """Count the values with every alias followed; a few bytes may stand for billions."""
    count, waiting = 0, [(value, 0)]
    while waiting:
        item, depth = waiting.pop()
        count += 1
        if count > MAX_NODES or depth > MAX_DEPTH:
            raise ConversionError(f"{where}: stands for too many values (an alias bomb?)")
        if isinstance(item, dict):
            waiting += [(child, depth + 1) for child in (*item, *item.values())]
        elif isinstance(item, list):
            waiting += [(child, depth + 1) for child in item]
