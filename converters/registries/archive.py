"""Unpacking ``.bentomodel`` and ``.bento``: xz tars from anywhere, into an empty folder of ours.

Only plain files and folders inside it come out, within caps; tarfile's own extraction is not used.
"""

from __future__ import annotations

import lzma
import tarfile
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from converters.errors import ConversionError
from converters.registries.files import MAX_FILES

MAX_BYTES = 16 << 30
"""Unpacked, all files together: the largest models on edge devices are a few GiB."""
MAX_RATIO = 200
"""Weights hardly shrink; a file that grows more than this is a bomb."""
FREE_BYTES = 64 << 20
"""Below this no ratio is looked at: a model of zeros, as tests have, shrinks well."""
XZ_MEMORY_BYTES = 256 << 20
"""xz -9 takes 65 MiB to unpack; a crafted head may ask for 4 GiB."""
MAX_DEPTH = 64
"""Folders in folders: each one asked for is made, one by one."""
_CHUNK_BYTES = 1 << 20


class _Unpacked:
    """The bytes of an xz file as a stream, with caps on memory and growth."""

    def __init__(self, file: BinaryIO, packed_bytes: int, name: str) -> None:
        self._file = file
        self._name = name
        self._cap = min(MAX_BYTES, max(FREE_BYTES, packed_bytes * MAX_RATIO))
        self._xz = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY_BYTES)
        self._ready = b""
        self._total = 0

    def read(self, size: int) -> bytes:
        """As much as there is, at most ``size`` bytes; nothing at the end."""
        while len(self._ready) < size and not self._xz.eof:
            packed = self._file.read(_CHUNK_BYTES) if self._xz.needs_input else b""
            if self._xz.needs_input and not packed:
                raise ConversionError(f'"{self._name}" ends in the middle: was it cut off?')
            more = self._xz.decompress(packed, _CHUNK_BYTES)
            self._total += len(more)
            if self._total > self._cap:
                raise ConversionError(f'"{self._name}" unpacks to over {self._cap} bytes: a bomb?')
            self._ready += more
        taken, self._ready = self._ready[:size], self._ready[size:]
        return taken


def unpack(path: Path, folder: Path) -> None:
    """Unpack an xz tar.

    Args:
        path: the archive.
        folder: an empty folder; holds what came out when it succeeded.

    Raises:
        ConversionError: not an xz tar, cut off, over a cap, or a member that would lie outside, be
            a link or come twice.
    """
    try:
        with path.open("rb") as file:
            stream = _Unpacked(file, path.stat().st_size, path.name)
            # "r|": a stream, so that nothing is sought and nothing is read twice.
            with tarfile.open(fileobj=stream, mode="r|", bufsize=_CHUNK_BYTES) as archive:  # type: ignore[call-overload]
                for count, member in enumerate(archive):
                    if count >= MAX_FILES:
                        raise ConversionError(f'"{path.name}" holds over {MAX_FILES} files')
                    _write(archive, member, folder, path.name)
                while stream.read(_CHUNK_BYTES):
                    pass  # to the end: only there does xz compare its checksums
    except (tarfile.TarError, lzma.LZMAError, EOFError, ValueError) as exc:
        raise ConversionError(f'"{path.name}" is not an xz tar that can be read: {exc}') from exc
    except OSError as exc:
        raise ConversionError(f'"{path.name}": {exc.strerror or exc}') from exc


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, name: str) -> None:
    parts = PurePosixPath(member.name).parts
    if member.name.startswith("/") or ".." in parts or "\\" in member.name or "\0" in member.name:
        raise ConversionError(f'"{name}": "{member.name[:100]}" would be written outside')
    if len(parts) > MAX_DEPTH:
        raise ConversionError(
            f'"{name}": "{member.name[:100]}" lies over {MAX_DEPTH} folders deep, as no model does'
        )
    if not (member.isreg() or member.isdir()):
        raise ConversionError(
            f'"{name}": "{member.name[:100]}" is a link or special file; only plain files are taken'
        )
    target = folder.joinpath(*(part for part in parts if part != "."))
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    source = archive.extractfile(member)
    assert source is not None  # it is a plain file
    try:
        with target.open("xb") as file:
            while chunk := source.read(_CHUNK_BYTES):
                file.write(chunk)
    except FileExistsError as exc:
        raise ConversionError(f'"{name}": "{member.name[:100]}" comes twice') from exc
