"""One file of the log: a header, then records; what is whole in it, and what it still holds."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from edged.outbox.age import Moment
from edged.outbox.entry import Entry, Found, Policy, decode_at, encode, scan, wanted_bytes

_HEADER = struct.Struct("<8sI8sQ")
_MAGIC = b"edgedob1"
HEADER_BYTES = _HEADER.size + 4
SUFFIX = ".log"
_CHUNK_BYTES = 256 << 10


@dataclass(slots=True)
class Segment:
    """A file of the log.

    Args:
        name: of the file.
        file: its descriptor.
        salt: what its CRCs start from.
        boot: the boot of the machine in which it was written.
        first: no sequence in it is lower.
        end: bytes of whole records.
        live: entries that wait to be delivered.
        held: those of them that only a delivery may remove.
        newest: when the last entry was written.
        last: the highest sequence in it; below ``first`` while it is empty.
        flaws: where damage begins that was counted already.
    """

    name: str
    file: int
    salt: int
    boot: bytes
    first: int
    end: int = HEADER_BYTES
    live: int = 0
    held: int = 0
    newest: Moment | None = None
    last: int = 0
    flaws: set[int] = field(default_factory=set)

    def count(self, entry: Entry, by: int) -> None:
        """Note that an entry was added (1) or needs no delivery any more (-1)."""
        self.live += by
        if entry.policy is Policy.BLOCK:
            self.held += by

    def takes(self, entries: Sequence[Entry], boot: bytes, left: int, most: int) -> bool:
        """Whether it takes entries at once, as they are.

        Args:
            entries: that would be appended.
            boot: the machine's present one.
            left: bytes of the log.
            most: bytes of a file that is not to be the only one.
        """
        need = sum(entry.size_bytes for entry in entries)
        is_begun = self.boot == boot and self.last >= self.first
        has_room = need <= left and self.end + need <= most
        return is_begun and has_room and all(e.policy is not Policy.LATEST_ONLY for e in entries)


def make_segment(disk: Any, first: int, boot: bytes) -> Segment:
    """A new file, durable with its name before anything is written to it; raises OSError."""
    name = f"{first:020d}{SUFFIX}"
    salt = int.from_bytes(os.urandom(4), "little")
    file = disk.open(name, create=True)
    try:
        header = _HEADER.pack(_MAGIC, salt, boot, first)
        disk.write(file, header + zlib.crc32(header).to_bytes(4, "little"), 0)
        disk.sync(file)
        disk.sync_names()
    except OSError:
        disk.close(file)
        disk.remove(name)
        raise
    return Segment(name, file, salt, boot, first, last=first - 1)


def open_segment(disk: Any, name: str) -> Segment | None:
    """A file that is there; None where its header is not whole: nothing in it was ever promised."""
    file = disk.open(name)
    header = disk.read(file, HEADER_BYTES, 0)
    body, crc = header[: _HEADER.size], header[_HEADER.size :]
    if len(header) == HEADER_BYTES and zlib.crc32(body).to_bytes(4, "little") == crc:
        magic, salt, boot, first = _HEADER.unpack(body)
        if magic == _MAGIC:
            return Segment(name, file, salt, boot, first, last=first - 1)
    disk.close(file)
    return None


def records(disk: Any, segment: Segment) -> Iterator[Found]:
    """Everything in the file, whole and damaged."""
    data = disk.read(segment.file, disk.size(segment.file), 0)
    return scan(data, HEADER_BYTES, segment.salt, segment.boot)


def write_entries(disk: Any, segment: Segment, entries: Sequence[Entry]) -> None:
    """Write entries behind all that is there, with one call.

    Raises:
        OSError: they could not be written, and the file is as before.
    """
    data = b"".join([encode(entry, segment.salt) for entry in entries])
    try:
        disk.write(segment.file, data, segment.end)
    except OSError:
        disk.cut(segment.file, segment.end)
        raise
    segment.end += len(data)
    segment.newest, segment.last = entries[-1].written, entries[-1].sequence


def read_from(
    disk: Any, segment: Segment, offset: int, most_bytes: int = _CHUNK_BYTES
) -> tuple[list[Entry], int]:
    """Entries from ``offset`` on, and where the next begins.

    Args:
        disk: the file system.
        segment: where.
        offset: of a record, or of damage.
        most_bytes: so many are read; a record that is larger is read alone.
    """
    data = disk.read(segment.file, min(most_bytes, segment.end - offset), offset)
    size = wanted_bytes(data, 0, segment.salt)
    if len(data) < size <= segment.end - offset:
        data = disk.read(segment.file, size, offset)
    found: list[Entry] = []
    at = 0
    while (decoded := decode_at(data, at, segment.salt, segment.boot)) is not None:
        entry, at = decoded
        found.append(entry)
    if found or offset >= segment.end:
        return found, offset + at
    # Damaged, perhaps while we ran: on to the next whole one, which may be far.
    whole = disk.read(segment.file, segment.end - offset, offset)
    damage = next(scan(whole, 0, segment.salt, segment.boot), None)
    return [], offset + (damage.end if damage is not None else len(whole))
