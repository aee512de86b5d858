"""Files that the user names: those that have an end, and outputs that hit none of them.

A pipe keeps a reader waiting forever, a device like ``/dev/zero`` never ends, and a rename over
``/dev/null`` takes it from the whole machine.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from converters.errors import ConversionError


def check_plain(path: Path, what: str) -> None:
    """Refuse what is neither a file nor a folder, before it is opened.

    Args:
        path: may not exist: whoever opens it says so. Links are followed.
        what: who names it, for the message.

    Raises:
        ConversionError: a pipe, device or socket, or a name that no text can hold.
    """
    try:
        os.fspath(path).encode("utf-8")
        mode = path.stat().st_mode
    except UnicodeEncodeError:
        raise ConversionError(
            f'{what} "{path}": the name is not UTF-8, or the locale (LANG, LC_ALL) cannot say it; '
            "rename it, or set LC_ALL=C.UTF-8"
        ) from None
    except OSError as exc:
        if exc.errno == errno.ENAMETOOLONG:
            raise ConversionError(
                f'{what} "{str(path)[:100]}…": a name that is too long for a file'
            ) from exc
        return
    except ValueError:  # a NUL byte
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise ConversionError(
            f'{what} "{path}": is a {_kind(mode)}, expected a file; write what comes out of it to '
            "one first"
        )


def check_sources(named: Mapping[str, str]) -> None:
    """Refuse a recipe that points to what cannot be read to its end.

    Args:
        named: the files that it is made of, by field.

    Raises:
        ConversionError: names the field.
    """
    for name, path in named.items():
        check_plain(Path(path), name)


def check_output(output: Path, named: Mapping[str, str]) -> None:
    """Refuse an output that cannot be replaced by a bundle, before anything slow.

    Args:
        output: where the bundle goes.
        named: files that must outlive it, by what they are.

    Raises:
        ConversionError: not a file's name, in no folder, or one of the files that it is made of.
    """
    if not output.name:
        raise ConversionError(f'output "{output}": expected the name of a file, as model-1.edgb')
    if not output.parent.is_dir():
        raise ConversionError(f'output "{output}": there is no folder "{output.parent}"; make it')
    check_replaceable(output)
    for name, path in named.items():
        if _is_same(output, Path(path)):
            raise ConversionError(
                f'output "{output}": is the {name} itself, which would be overwritten; give '
                "another name"
            )


def check_replaceable(path: Path) -> None:
    """Refuse to rename a file over a folder, pipe or device.

    Raises:
        ConversionError: it is one.
    """
    try:
        mode = path.lstat().st_mode
    except (OSError, ValueError):
        return
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        raise ConversionError(
            f"{path}: cannot be written: is a {_kind(mode)}, expected a file or a new name"
        )


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except (OSError, ValueError):
        return False


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "folder", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}
    return kinds.get(stat.S_IFMT(mode), "device")
