"""Files that are there as a whole or not at all: written beside, synced, then renamed over.

Whatever ends the program, a reader finds the old file or the new one. The only place of the
converter that does it, so that bundles, locks, reports and layouts all keep the same promise.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from converters.errors import ConversionError
from converters.paths import check_replaceable


@dataclass
class Draft:
    """A file that is being written beside its place.

    Args:
        file: write here; it may be read and sought too.
        path: where it will be; may be set until the context ends (a name that is a digest).
    """

    file: IO[bytes]
    path: Path


@contextmanager
def draft(path: Path) -> Iterator[Draft]:
    """Write a file that takes its place when the context ends well, and leaves nothing otherwise.

    The file is synced before it is renamed, and its folder after. It is readable for all, whatever
    the umask: what is written is meant to be handed on.

    Args:
        path: where to; the draft lies in the same folder as ``.NAME.*``.

    Raises:
        OSError: it cannot be written; what was at ``path`` is still there.
        ConversionError: a folder, pipe or device is there.
    """
    check_replaceable(path)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "w+b") as file:  # noqa: PTH123  (opened by descriptor)
            begun = Draft(file, path)
            yield begun
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        Path(name).replace(begun.path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _sync_folder(begun.path.parent)


def replace_file(path: Path, data: bytes) -> None:
    """Write a file as a whole, or leave the one that is there.

    Raises:
        ConversionError: it cannot be written.
    """
    try:
        with draft(path) as begun:
            begun.file.write(data)
    except OSError as exc:
        raise ConversionError(f"{path}: cannot be written: {exc.strerror}") from exc


def _sync_folder(folder: Path) -> None:
    """So that the name survives a power cut too; some network file systems sync no folder."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
