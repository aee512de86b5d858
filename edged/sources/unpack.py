"""The one file out of an image's layer: a bundle inside tar and gzip, and nothing else.

Decides whether a layer is exactly what ``edged-convert publish`` writes: one folder, one bundle.
No general archive is ever extracted: no link, no second file, no name that becomes a path, and no
byte more than the header states, however much a few bytes would unpack to.
"""

from __future__ import annotations

import contextlib
import os
import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from edged.errors import ApplyError, BundleError, IncompatibleError
from edged.specs import size_words

_BLOCK = tarfile.BLOCKSIZE
_READ_BYTES = 256 << 10
_MOST_PADDING = 64 << 10
"""Of zeros at the end; tar itself fills up to 10 KiB."""
_NAME = re.compile(r"models/[A-Za-z0-9][A-Za-z0-9._-]{0,127}\.edgb", re.ASCII)
_RESERVE = 1.2


def unpack(layer: Path, target: Path, most: int) -> None:
    """Write the bundle that a layer holds.

    Args:
        layer: gzip around tar; its digest was checked.
        target: made; replaced if it is there.
        most: bytes that the bundle may have.

    Raises:
        BundleError: the layer is anything else.
        ApplyError: the disk does not take it.
    """
    try:
        with layer.open("rb") as file:
            _unpack(_Unzipped(file.fileno()), target, most)
    except OSError as exc:
        raise ApplyError(f"cannot write to {target.parent}: {exc.strerror}") from exc
    except zlib.error as exc:
        raise BundleError(f"the layer is no gzip, or damaged: {exc}") from exc


def _unpack(data: _Unzipped, target: Path, most: int) -> None:
    entry = _entry(data.exactly(_BLOCK))
    if entry.isdir() and entry.name == "models":
        entry = _entry(data.exactly(_BLOCK))
    if entry.type != tarfile.REGTYPE or _NAME.fullmatch(entry.name) is None:
        raise BundleError(f"the layer holds {entry.name[:60]!r}; expected models/NAME-RELEASE.edgb")
    if not 0 < entry.size <= most:
        raise BundleError(f"the bundle has {entry.size} bytes; max_bytes of the source is {most}")
    disk = os.statvfs(target.parent)
    free = disk.f_bavail * disk.f_frsize
    if free < entry.size * _RESERVE:
        raise IncompatibleError(
            f"{target.parent} has {size_words(free)} free; the bundle needs "
            f"{size_words(int(entry.size * _RESERVE))} to be unpacked; make room, then try again"
        )
    with _written(target) as fd:
        left = entry.size
        while left:
            chunk = data.some(min(left, _READ_BYTES))
            view = memoryview(chunk)
            while view:
                view = view[os.write(fd, view) :]
            left -= len(chunk)
        data.exactly(-entry.size % _BLOCK)
        padding = 0
        while chunk := data.some(_READ_BYTES, at_end=True):
            padding += len(chunk)
            if any(chunk) or padding > _MOST_PADDING:
                raise BundleError("the layer holds more than one bundle")


def _entry(block: bytes) -> tarfile.TarInfo:
    try:
        return tarfile.TarInfo.frombuf(block, "ascii", "strict")
    except (tarfile.HeaderError, ValueError) as exc:
        raise BundleError(f"the layer is no tar archive: {exc}") from exc


@contextlib.contextmanager
def _written(target: Path) -> Iterator[int]:
    with contextlib.suppress(FileNotFoundError):
        target.unlink()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(target, flags, 0o600)
    try:
        yield fd
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)


class _Unzipped:
    """The bytes inside gzip, never more at a time than asked for."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._zip = zlib.decompressobj(31)
        self._input = b""

    def some(self, most: int, *, at_end: bool = False) -> bytes:
        """At least a byte; empty only at the end, where that may be."""
        while not self._zip.eof:
            if not self._input:
                self._input = os.read(self._fd, _READ_BYTES)
                if not self._input:
                    break
            out = self._zip.decompress(self._input, most)
            self._input = self._zip.unconsumed_tail
            if out:
                return out
        if at_end and self._zip.eof and not self._zip.unused_data and not os.read(self._fd, 1):
            return b""
        raise BundleError("the layer is cut off" if not self._zip.eof else "more follows the gzip")

    def exactly(self, size: int) -> bytes:
        """So many bytes."""
        parts = []
        while size:
            parts.append(self.some(size))
            size -= len(parts[-1])
        return b"".join(parts)
