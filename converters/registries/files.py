"""Reading other people's folders: never out of them, never through a link, never without a cap."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from converters.documents import parse_yaml
from converters.errors import ConversionError

MAX_TEXT_BYTES = 4 << 20
"""A description is a page of text; a signature with thousands of columns still fits in 4 MiB."""
MAX_FILES = 20_000
"""Files of one model folder; a SavedModel or a model repository has some hundred."""


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
    return parse_yaml(read_text(path), f'"{path.name}"')


def read_json(text: str, where: str) -> Any:
    """JSON as plain values; ``where`` names it in messages.

    Raises:
        ConversionError: not JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise ConversionError(f"{where}: not JSON: {exc}") from exc
