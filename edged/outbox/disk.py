"""The file system calls of the outbox, few and in one place, so that a test can cut the power.

Each does what its name says and no more; which of them make something durable is the log's to know.
"""

from __future__ import annotations

import os
from pathlib import Path


class Disk:
    """A folder of files; every call may raise OSError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def prepare(self) -> None:
        """Make the folder, for the daemon's user alone."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        _sync_folder(self._folder.parent)

    def names(self) -> list[str]:
        """The files there are, sorted."""
        return sorted(path.name for path in self._folder.iterdir() if path.is_file())

    def open(self, name: str, *, create: bool = False) -> int:
        """Open to read and write; a new one must not be there yet. Links are not followed."""
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        flags |= os.O_CREAT | os.O_EXCL if create else 0
        return os.open(self._folder / name, flags, 0o600)

    def close(self, file: int) -> None:
        """Close; nothing is made durable."""
        os.close(file)

    def size(self, file: int) -> int:
        """Bytes in the file."""
        return os.fstat(file).st_size

    def read(self, file: int, size: int, offset: int) -> bytes:
        """Up to ``size`` bytes; fewer at the end of the file only."""
        parts, left = [], size
        while left:
            part = os.pread(file, min(left, 1 << 30), offset)
            if not part:
                break
            parts.append(part)
            offset += len(part)
            left -= len(part)
        return b"".join(parts)

    def write(self, file: int, data: bytes, offset: int) -> None:
        """All of the data, or OSError with some of it written."""
        view = memoryview(data)
        while view:
            written = os.pwrite(file, view, offset)
            view, offset = view[written:], offset + written

    def cut(self, file: int, size: int) -> None:
        """Shorten a file."""
        os.ftruncate(file, size)

    def sync(self, file: int) -> None:
        """Make the data of a file durable, and the length that is needed to read it."""
        os.fdatasync(file)

    def sync_names(self) -> None:
        """Make the names in the folder durable."""
        _sync_folder(self._folder)

    def remove(self, name: str) -> None:
        """Remove a file."""
        (self._folder / name).unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
