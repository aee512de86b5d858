"""How far the log was delivered, and which requests were answered: a small file of fixed size.

It is written in place and never grows, so that a full disk can still be drained. Losing it costs
duplicates, which are marked, and never an entry.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Any

NAME = "marks"
IDS = 4096
"""Answered requests that are known again; only those matter that the broker has not seen
acknowledged, and it allows far fewer to be open."""
_SLOT = struct.Struct("<8sQQQ")
_SLOT_BYTES = 64
_MAGIC = b"edgedmk1"
_ID = struct.Struct("<16sQ")
_ID_BYTES = _ID.size + 4
SIZE_BYTES = 2 * _SLOT_BYTES + IDS * _ID_BYTES


class Marks:
    """The marks of one log.

    Args:
        disk: the file system.
    """

    def __init__(self, disk: Any) -> None:
        self._disk = disk
        self._file = -1
        self._turn = 0
        self.delivered = 0
        """Everything up to this sequence needs no delivery."""
        self.begun = 0
        """Nothing behind this sequence was ever given out."""
        self.is_known = False
        """False where the marks were lost: anything may have been delivered before."""

    def open(self) -> list[tuple[int, bytes]]:
        """Read the marks or make the file; the ids in it with their sequences. Raises OSError."""
        disk = self._disk
        if NAME not in disk.names():
            self._file = disk.open(NAME, create=True)
            disk.write(self._file, bytes(SIZE_BYTES), 0)
            self.write()
            disk.sync(self._file)
            disk.sync_names()
            self.is_known = True
            return []
        self._file = disk.open(NAME)
        data = disk.read(self._file, SIZE_BYTES, 0)
        if len(data) < SIZE_BYTES:
            disk.write(self._file, bytes(SIZE_BYTES - len(data)), len(data))
        for number in (0, 1):
            self._read_slot(data[number * _SLOT_BYTES : (number + 1) * _SLOT_BYTES])
        return self._read_ids(data[2 * _SLOT_BYTES :])

    def _read_slot(self, slot: bytes) -> None:
        body, crc = slot[: _SLOT.size], slot[_SLOT.size : _SLOT.size + 4]
        if len(crc) < 4 or zlib.crc32(body).to_bytes(4, "little") != crc:
            return
        magic, turn, delivered, begun = _SLOT.unpack(body)
        if magic == _MAGIC and turn > self._turn:
            self._turn, self.delivered, self.begun, self.is_known = turn, delivered, begun, True

    def _read_ids(self, data: bytes) -> list[tuple[int, bytes]]:
        found = []
        for at in range(0, len(data) - _ID_BYTES + 1, _ID_BYTES):
            body = data[at : at + _ID.size]
            crc = data[at + _ID.size : at + _ID_BYTES]
            if any(body) and zlib.crc32(body).to_bytes(4, "little") == crc:
                value, sequence = _ID.unpack(body)
                found.append((sequence, value))
        return found

    def write(self) -> None:
        """Note how far we are; outlives the process at once, a power cut after ``sync`` only."""
        self._turn += 1
        body = _SLOT.pack(_MAGIC, self._turn, self.delivered, self.begun)
        slot = body + zlib.crc32(body).to_bytes(4, "little")
        self._disk.write(self._file, slot, self._turn % 2 * _SLOT_BYTES)

    def keep_ids(self, ids: Sequence[tuple[int, bytes]]) -> None:
        """Note ids, by sequence, before the records that carry them go."""
        for sequence, value in ids:
            body = _ID.pack(value, sequence)
            record = body + zlib.crc32(body).to_bytes(4, "little")
            self._disk.write(self._file, record, 2 * _SLOT_BYTES + sequence % IDS * _ID_BYTES)

    def sync(self) -> None:
        """Make all of it durable."""
        self._disk.sync(self._file)

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            self._disk.close(self._file)
            self._file = -1
