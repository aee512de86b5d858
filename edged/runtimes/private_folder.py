"""Verified bytes as files, for a backend that takes nothing but a path.

The folder is new, belongs to this user alone and is gone when loading is over, so that nobody else
can put another file in the place of one that was verified.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping

from edged.errors import LoadError

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def private_folder(files: Mapping[str, bytes], where: str) -> Iterator[str]:
    """Write files into a new folder; yields its path, and removes it.

    Args:
        files: contents by plain name.
        where: whose they are, for messages.

    Raises:
        LoadError: a name that is a path, or no room.
    """
    if wrong := [name for name in files if name in ("", ".", "..") or "/" in name or "\0" in name]:
        raise LoadError(f"{where}: {wrong[0][:64]!r} is no plain file name")
    path = ""
    try:
        path = tempfile.mkdtemp(prefix="edged-model-")
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            for name, data in files.items():
                _write(folder, name, data)
        finally:
            os.close(folder)
        yield path
    except OSError as exc:
        size = sum(map(len, files.values())) >> 20
        raise LoadError(
            f"{where}: its {size + 1} MiB cannot be written to the folder for temporary files "
            f"({exc.strerror}); make room there, or name another one in TMPDIR"
        ) from exc
    finally:
        if path:
            shutil.rmtree(path, ignore_errors=True)


def _write(folder: int, name: str, data: bytes) -> None:
    with os.fdopen(os.open(name, _FLAGS, 0o600, dir_fd=folder), "wb", buffering=0) as file:
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]
