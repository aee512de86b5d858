"""Reading other people's folders: never out of them, never through a link, never without a cap."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from converters.errors import ConversionError

MAX_TEXT_BYTES = 4 << 20
"""A description is a page of text; a signature with thousands of columns still fits in 4 MiB."""
MAX_NODES = 100_000
"""Values of one YAML or JSON text, aliases followed: more is a bomb, not a description."""
MAX_DEPTH = 32
MAX_FILES = 20_000
"""Files of one model folder; a SavedModel or a model repository has some hundred."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def inside(folder: Path, relative: str, what: str) -> Path:
    """The path of a file or folder that a description names.

    Args:
        folder: where the description lies; trusted to be what the user named.
        relative: what the description says.
        what: who says it, for the message.

    Raises:
        ConversionError: the path leaves the folder, runs through a link, or is not there.
    """
    parts = PurePosixPath(relative).parts
    if not parts or relative.startswith("/") or "\\" in relative or "\0" in relative:
        raise ConversionError(f'{what}: "{relative}" is not a path inside "{folder.name}"')
    if ".." in parts:
        raise ConversionError(
            f'{what}: "{relative}" leaves the folder "{folder.name}", so it is not read; a '
            "description may name only what lies beside it"
        )
    path = folder
    for part in parts:
        path /= part
        try:
            mode = path.lstat().st_mode
        except (OSError, ValueError) as exc:
            reason = getattr(exc, "strerror", None) or exc
            raise ConversionError(f'{what}: "{relative}" in "{folder.name}": {reason}') from exc
        if stat.S_ISLNK(mode):
            raise ConversionError(
                f'{what}: "{part}" in "{relative}" is a symbolic link, which could lead anywhere; '
                "replace it by the file itself"
            )
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise ConversionError(f'{what}: "{relative}" is neither a file nor a folder')
    return path


def file_inside(folder: Path, relative: str, what: str) -> Path:
    """As ``inside``, for a plain file.

    Raises:
        ConversionError: as ``inside``, or it is a folder.
    """
    path = inside(folder, relative, what)
    if not path.is_file():
        raise ConversionError(f'{what}: "{relative}" is a folder, expected a file')
    return path


def names_in(folder: Path) -> list[str]:
    """The names in a folder, sorted; none when it cannot be listed."""
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except OSError:
        return []


def walk(folder: Path) -> Iterator[Path]:
    """Every plain file below a folder, in name order.

    Raises:
        ConversionError: a link or special file among them, or more than MAX_FILES.
    """
    count = 0
    for root, folders, files in os.walk(folder, followlinks=False):
        folders.sort()
        for name in sorted([*folders, *files]):
            path = Path(root) / name
            mode = path.lstat().st_mode
            shown = path.relative_to(folder)
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise ConversionError(
                    f'"{shown}" in "{folder.name}" is a link or special file; '
                    "replace it by the file itself"
                )
            count += 1
            if count > MAX_FILES:
                raise ConversionError(f'"{folder.name}" holds over {MAX_FILES} files: no model')
            if stat.S_ISREG(mode):
                yield path


def read_text(path: Path, cap_bytes: int = MAX_TEXT_BYTES) -> str:
    """A small text file; a link or a device is not opened.

    Raises:
        ConversionError: unreadable, over the cap, or not UTF-8.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as exc:
        raise ConversionError(f'"{path}": {exc.strerror}') from exc
    with open(descriptor, "rb") as file:  # noqa: PTH123  (opened by descriptor)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ConversionError(f'"{path}" is not a plain file')
        data = file.read(cap_bytes + 1)
    if len(data) > cap_bytes:
        raise ConversionError(f'"{path}": over {cap_bytes} bytes, which no description needs')
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise ConversionError(f'"{path}": not UTF-8 text (byte {exc.start})') from exc


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML description as plain values.

    Raises:
        ConversionError: not YAML, a tag that could make objects, a bomb, or no mapping.
    """
    text = read_text(path)
    where = f'"{path.name}"'
    try:
        _refuse_tags(text, where)
        value = yaml.load(text, Loader=_LOADER)  # noqa: S506  (the safe loader, in C)
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(exc, "problem", None) or "cannot be read"
        raise ConversionError(f"{where}{place}: not YAML: {problem}") from exc
    except (ValueError, RecursionError) as exc:  # dates that are none, and nesting
        raise ConversionError(f"{where}: not YAML that can be read: {exc}") from exc
    if not isinstance(value, dict):
        raise ConversionError(f"{where}: expected a mapping, found {type(value).__name__}")
    _refuse_bombs(value, where)
    return value


def read_json(text: str, where: str) -> Any:
    """JSON as plain values; ``where`` names it in messages.

    Raises:
        ConversionError: not JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise ConversionError(f"{where}: not JSON: {exc}") from exc


def _refuse_tags(text: str, where: str) -> None:
    """Refuse tags by the events, before anything is constructed."""
    depth = 0
    for nodes, event in enumerate(yaml.parse(text, Loader=_LOADER)):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        tag = getattr(event, "tag", None)
        line = event.start_mark.line + 1 if event.start_mark is not None else 0
        if tag is not None and not str(tag).startswith("tag:yaml.org,2002:str"):
            raise ConversionError(
                f'{where}, line {line}: the tag "{tag}" asks for an object to be made; only plain '
                "text, numbers, lists and mappings are read"
            )
        if nodes > MAX_NODES or depth > MAX_DEPTH:
            raise ConversionError(f"{where}, line {line}: too many or too deeply nested values")


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
