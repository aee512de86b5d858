"""One entry of the outbox and its bytes on disk.

A record is a mark, the size and the CRC of what follows, then the fields, the key and the data.
Mark and CRC start from a number that each file draws for itself: a payload that holds the image of
a record is no record, whatever was damaged around it, and none can make the search for one slow.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

from edged.outbox.age import Moment, age_ns

_PREFIX = struct.Struct("<III")
_FIELDS = struct.Struct("<QqqIB16sH")
OVERHEAD_BYTES = _PREFIX.size + _FIELDS.size
NO_ID = bytes(16)
_LONGEST_KEY = 65_535


class Policy(IntEnum):
    """What happens when the outbox is full."""

    BLOCK = 0
    """It waits, and with it whoever waits for its acknowledgement."""
    DROP_OLDEST = 1
    """The oldest of this policy go, and are counted."""
    LATEST_ONLY = 2
    """Of each key only the newest is kept, always; when full, as DROP_OLDEST."""


class Entry(NamedTuple):
    """Something to deliver.

    Args:
        key: what it belongs to (a topic): entries of one key leave in order.
        data: opaque bytes.
        written: when it was put in.
        lifetime_s: older than that it is not delivered; 0 = the outbox's own limit only.
        policy: see Policy.
        id: 16 bytes by which the request is known again; zeros for none.
        sequence: its place; given by the log.
        may_be_sent: it may have been delivered before a crash.
    """

    key: bytes
    data: bytes
    written: Moment
    lifetime_s: int = 0
    policy: Policy = Policy.BLOCK
    id: bytes = NO_ID
    sequence: int = 0
    may_be_sent: bool = False

    @property
    def size_bytes(self) -> int:
        """Bytes on disk."""
        return OVERHEAD_BYTES + len(self.key) + len(self.data)


def is_too_old(entry: Entry, at: Moment, max_age_ns: int) -> bool:
    """Whether an entry has outlived its own time or the outbox's (0 = none)."""
    age = age_ns(entry.written, at)
    limit_ns = entry.lifetime_s * 10**9
    return bool((limit_ns and age >= limit_ns) or 0 < max_age_ns <= age)


def encode(entry: Entry, salt: int) -> bytes:
    """The record of an entry.

    Raises:
        ValueError: the key is too long.
    """
    if len(entry.key) > _LONGEST_KEY:
        raise ValueError(f"a key of {len(entry.key)} bytes; at most {_LONGEST_KEY}")
    written = entry.written
    fields = _FIELDS.pack(
        entry.sequence, written.wall_ns, written.boot_ns, entry.lifetime_s,
        entry.policy, entry.id, len(entry.key),
    )  # fmt: skip
    body = fields + entry.key + entry.data
    return _PREFIX.pack(salt, len(body), _crc(body, salt)) + body


def _crc(body: bytes | memoryview, salt: int) -> int:
    return zlib.crc32(body, salt ^ len(body))


def wanted_bytes(data: bytes, offset: int, salt: int) -> int:
    """How many bytes the record at ``offset`` says it takes; 0 where there is none."""
    if len(data) - offset < _PREFIX.size:
        return 0
    mark, size, _ = _PREFIX.unpack_from(data, offset)
    return _PREFIX.size + int(size) if mark == salt else 0


def decode_at(data: bytes, offset: int, salt: int, boot: bytes) -> tuple[Entry, int] | None:
    """The record at ``offset`` and where it ends; None for anything that is not whole and true."""
    size = wanted_bytes(data, offset, salt)
    end = offset + size
    if size < OVERHEAD_BYTES or end > len(data):
        return None
    crc = _PREFIX.unpack_from(data, offset)[2]
    body = memoryview(data)[offset + _PREFIX.size : end]
    if _crc(body, salt) != crc:
        return None
    sequence, wall_ns, boot_ns, lifetime_s, policy, found, length = _FIELDS.unpack_from(body)
    if policy not in Policy._value2member_map_ or _FIELDS.size + length > len(body):
        return None
    key = bytes(body[_FIELDS.size : _FIELDS.size + length])
    payload = bytes(body[_FIELDS.size + length :])
    moment = Moment(boot, boot_ns, wall_ns)
    return Entry(key, payload, moment, lifetime_s, Policy(policy), found, sequence), end


class Found(NamedTuple):
    """What a scan came upon: an entry, or None for bytes that are not a record."""

    entry: Entry | None
    start: int
    end: int


def scan(data: bytes, offset: int, salt: int, boot: bytes) -> Iterator[Found]:
    """All records from ``offset`` on; damaged ones are jumped over, to the next that is whole."""
    last = 0
    while offset < len(data):
        decoded = decode_at(data, offset, salt, boot)
        if decoded is not None and decoded[0].sequence > last:
            entry, end = decoded
            last = entry.sequence
            yield Found(entry, offset, end)
            offset = end
            continue
        following = _next_whole(data, offset + 1, salt, boot)
        yield Found(None, offset, following)
        offset = following


def _next_whole(data: bytes, offset: int, salt: int, boot: bytes) -> int:
    mark = salt.to_bytes(4, "little")
    while (offset := data.find(mark, offset)) >= 0:
        if decode_at(data, offset, salt, boot) is not None:
            return offset
        offset += 1
    return len(data)
