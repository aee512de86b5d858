"""Small files that are replaced whole: the old one or the new one, also after a power cut."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from edged.faults import fault
from edged.system.breath import breathe

SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Says nothing of a file that cannot be read: we have run out of something, for a while. Whoever
takes the file for gone then, and writes it, has lost what it held."""


def write_atomically(path: Path, data: bytes, point: str = "") -> None:
    """Replace a file by rename, with the file and its folder synced.

    Args:
        path: the file.
        data: what it is to hold.
        point: what the fault points in it are called after; default: the file's name.
    """
    point = point or path.name
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    breathe()
    try:
        with open(temporary, "wb", opener=_open_private) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fault(f"write.{point}")
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fault(f"renamed.{point}")
    breathe()
    sync_directory(path.parent)
    fault(f"wrote.{point}")


def make_directory(path: Path) -> None:
    """Make a folder for one user alone, and bring its name to disk; one that is there stays."""
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        return
    except FileNotFoundError:
        make_directory(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Bring to disk which names a folder has."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
