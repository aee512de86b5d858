"""The one zip form a bundle may have: every member stored, nothing between, before or behind.

Decides whether the bytes of a file are exactly that form; a general zip reader forgives what would
let two programs see two different archives. Never decompresses, never extracts, never makes a path.
Source: the zip format's own headers (local header, central directory, end record).
"""

from __future__ import annotations

import os
import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from edged.errors import BundleError

MEMBERS_CAP = 258
"""The manifest's 256 members, and manifest.json and signatures.json."""
NAME_CAP_BYTES = 64
CHUNK_BYTES = 1 << 20
FILE_CAP_BYTES = 0xFFFFFFFE
"""Offsets are 32 bits wide: the form has no extra fields, so no room for wider ones."""

_LOCAL = struct.Struct("<4sHHHHHIIIHH")
_CENTRAL = struct.Struct("<4sHHHHHHIIIHHHHHII")
_END = struct.Struct("<4sHHHHIIH")
LOCAL_MARK, _CENTRAL_MARK, _END_MARK = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_VERSION = 20
_DATE = 0x21
"""1980-01-01, the first day zip knows: the same input gives the same bytes on any day."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a member's bytes lie.

    Args:
        name: ASCII, at most NAME_CAP_BYTES long; still to be held against the manifest.
        size: bytes of the member.
        crc: CRC-32 as the headers state it.
        header_at: offset of its local header.
        data_at: offset of its first byte.
    """

    name: str
    size: int
    crc: int
    header_at: int
    data_at: int


def read_entries(fd: int) -> tuple[Entry, ...]:
    """Check the whole frame of an archive and list its members in order; reads no member.

    Raises:
        BundleError: anything that is not exactly the form; says what and at which offset.
    """
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode):
        raise BundleError("a bundle is a regular file; this is something else")
    if info.st_size > FILE_CAP_BYTES:
        raise BundleError(f"the bundle has {info.st_size} bytes; the limit is {FILE_CAP_BYTES}")
    entries: list[Entry] = []
    at = 0
    while _pread(fd, 4, at) == LOCAL_MARK:
        if len(entries) == MEMBERS_CAP:
            raise BundleError(f"the archive has more than {MEMBERS_CAP} members")
        entry = local_entry(fd, at, info.st_size)
        entries.append(entry)
        at = entry.data_at + entry.size
    if not entries:
        raise BundleError("not a bundle: it does not start with a zip member (empty or cut off?)")
    _check_names(entries)
    _check_directory(fd, entries, at, info.st_size)
    return tuple(entries)


def stream(fd: int, entry: Entry) -> Iterator[bytes]:
    """The member's bytes in chunks; the last one comes only if the CRC fits."""
    left, at, crc = entry.size, entry.data_at, 0
    while left:
        chunk = _pread(fd, min(left, CHUNK_BYTES), at)
        if not chunk:
            raise BundleError(f'"{entry.name}" is cut off: the file became shorter while reading')
        crc = zlib.crc32(chunk, crc)
        left -= len(chunk)
        at += len(chunk)
        if not left and crc != entry.crc:
            raise BundleError(f'"{entry.name}" is damaged: its CRC does not fit')
        yield chunk


def read(fd: int, entry: Entry, cap_bytes: int) -> bytes:
    """A small member as a whole.

    Raises:
        BundleError: larger than ``cap_bytes`` (checked before anything is read) or damaged.
    """
    if entry.size > cap_bytes:
        raise BundleError(f'"{entry.name}" has {entry.size} bytes; the limit is {cap_bytes}')
    return b"".join(stream(fd, entry))


def local_entry(fd: int, at: int, file_size: int) -> Entry:
    """The member whose header begins at an offset, in a file that is so long.

    Raises:
        BundleError: the header is not exactly the form.
    """
    head = _exactly(fd, _LOCAL.size, at)
    _, version, flags, method, time, date, crc, packed, size, name_len, extra = _LOCAL.unpack(head)
    where = f"member at offset {at}"
    if flags:
        kind = "encrypted" if flags & 1 else "uses a data descriptor" if flags & 8 else "has flags"
        raise BundleError(f"{where}: {kind} (flags {flags:#x}); all flags must be 0")
    if method or packed != size:
        raise BundleError(f"{where}: members must be stored, not compressed (method {method})")
    if version > _VERSION or (time, date) != (0, _DATE) or extra:
        raise BundleError(
            f"{where}: expected a plain header (version {_VERSION}, 1980-01-01, no extra fields)"
        )
    if not 1 <= name_len <= NAME_CAP_BYTES:
        raise BundleError(f"{where}: a name has 1 to {NAME_CAP_BYTES} bytes; this has {name_len}")
    name = _exactly(fd, name_len, at + _LOCAL.size)
    if not name.isascii() or min(name) < 0x20:
        # Other readers end a name at a NUL, and so see another archive.
        raise BundleError(f"{where}: names are plain ASCII without control characters")
    data_at = at + _LOCAL.size + name_len
    if data_at + size > file_size:
        raise BundleError(
            f"{where}: {size} bytes declared, the file ends before; copy it again, whole"
        )
    return Entry(name.decode("ascii"), size, crc, at, data_at)


def _check_names(entries: list[Entry]) -> None:
    seen: set[str] = set()
    for entry in entries:
        folded = entry.name.lower()
        if folded in seen:
            raise BundleError(f'member "{entry.name}" occurs twice (case does not count)')
        seen.add(folded)


def _check_directory(fd: int, entries: list[Entry], start: int, file_size: int) -> None:
    """Hold the directory at the end against the members themselves."""
    at = start
    for entry in entries:
        at = _check_central(fd, entry, at)
    count, size = len(entries), at - start
    end = _exactly(fd, _END.size, at)
    if end != _END.pack(_END_MARK, 0, 0, count, count, size, start, 0):
        raise BundleError(f"end of archive at offset {at} does not fit its {count} members")
    if at + _END.size != file_size:
        raise BundleError(f"{file_size - at - _END.size} bytes follow the end of the archive")


def _check_central(fd: int, entry: Entry, at: int) -> int:
    head = _exactly(fd, _CENTRAL.size, at)
    _, _made_by, needed, *middle, attributes, header_at = _CENTRAL.unpack(head)
    name = entry.name.encode("ascii")
    # flags, method, time, date, crc, two sizes, name; extra, comment, disk; internal attributes.
    plain = (0, 0, 0, _DATE, entry.crc, entry.size, entry.size, len(name), 0, 0, 0)
    is_same = (
        head.startswith(_CENTRAL_MARK)
        and tuple(middle[:-1]) == plain
        and header_at == entry.header_at
        and _exactly(fd, len(name), at + _CENTRAL.size) == name
    )
    # Who made it and which permissions it had are the writer's affair; a link or folder is not.
    is_file = stat.S_IFMT(attributes >> 16) in (0, stat.S_IFREG) and not attributes & 0x10
    if not is_same or not is_file or needed > _VERSION:
        raise BundleError(
            f'the directory entry at offset {at} differs from member "{entry.name}" itself, or '
            "is not a plain file"
        )
    return at + _CENTRAL.size + len(name)


def _exactly(fd: int, size: int, at: int) -> bytes:
    data = _pread(fd, size, at)
    if len(data) != size:
        raise BundleError(f"the archive is cut off at offset {at + len(data)}")
    return data


def _pread(fd: int, size: int, at: int) -> bytes:
    try:
        return os.pread(fd, size, at)
    except OSError as exc:
        raise BundleError(f"cannot read the bundle: {exc.strerror}") from exc
