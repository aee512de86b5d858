"""Reading the kernel's small files: one value or None, never an exception and never a made-up zero.

A file may be missing (other hardware), refuse the read (a block that is powered down answers
EAGAIN or EINVAL) or hold something unexpected; all of that is "unknown" to the caller.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

CAP_BYTES = 64 * 1024
"""The files read here hold a line or a page; /proc/cpuinfo of a large server is read in part."""


def read_text(path: Path) -> str | None:
    """The content without surrounding space and NUL bytes (device-tree strings end in one)."""
    try:
        with path.open("rb") as file:
            data = file.read(CAP_BYTES)
    except (OSError, ValueError):
        return None
    return data.decode("utf-8", "replace").strip("\x00 \t\r\n") if data is not None else None


def read_int(path: Path) -> int | None:
    """The content as a decimal number."""
    text = read_text(path)
    try:
        return int(text) if text else None
    except ValueError:
        return None


def scaled(value: int | None, factor: float) -> float | None:
    """``value * factor``; unknown stays unknown."""
    return None if value is None else value * factor


def first_int(paths: Iterable[Path]) -> int | None:
    """The first of the files that holds a number."""
    return next((value for path in paths if (value := read_int(path)) is not None), None)


def matching(folder: Path, pattern: str) -> list[Path]:
    """Entries of a folder by glob, in natural order (zone2 before zone10); empty if none."""
    try:
        found = list(folder.glob(pattern))
    except OSError:
        return []
    return sorted(found, key=lambda path: [_number_or_text(p) for p in _split(path.name)])


def _split(name: str) -> list[str]:
    parts = [""]
    for char in name:
        if parts[-1] and char.isdigit() != parts[-1][-1].isdigit():
            parts.append("")
        parts[-1] += char
    return parts


def _number_or_text(part: str) -> tuple[int, str]:
    return (int(part), "") if part.isdecimal() and part.isascii() else (-1, part)
