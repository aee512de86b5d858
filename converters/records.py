"""JSON files that one command leaves for a later one: locks, reports, what became of a batch."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from converters.errors import ConversionError
from converters.paths import check_plain

T = TypeVar("T")


def read_record(path: Path, form: type[T], cap_bytes: int, noun: str, remedy: str = "") -> T | None:
    """Read a file that a command wrote.

    Args:
        path: where it lies; links are followed.
        form: what it holds.
        cap_bytes: the most it may hold.
        noun: what it is, as "a lock", for messages.
        remedy: what to do about one that is none.

    Returns:
        None where there is no such file.

    Raises:
        ConversionError: unreadable, a pipe or device, over the cap, or not of this form.
    """
    check_plain(path, noun.partition(" ")[2])
    try:
        with path.open("rb") as file:
            data = file.read(cap_bytes + 1)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as exc:
        raise ConversionError(f"{path}: {getattr(exc, 'strerror', None) or exc}") from exc
    if len(data) > cap_bytes:
        raise ConversionError(f"{path}: over {cap_bytes} bytes; is this {noun}?")
    try:
        return msgspec.json.decode(data, type=form)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        hint = f"; {remedy}" if remedy else ""
        raise ConversionError(f"{path}: not {noun} of this version ({exc}){hint}") from exc
