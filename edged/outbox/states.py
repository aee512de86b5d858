"""The newest state of every key on disk: appended to a file, which is rewritten when it is old.

Used by one thread; raises OSError where the file system fails. ``sync`` is what makes a state safe:
it survives kill -9 and a power cut from then on, until a newer one of its key does.
"""

from __future__ import annotations

import contextlib
from typing import Any

from edged.outbox.age import Moment
from edged.outbox.entry import Entry, Policy, encode
from edged.outbox.segment import SUFFIX, Segment, make_segment, open_segment, records

_LEAST_REWRITTEN = 1 << 20
_MOSTLY_OLD = 4
"""The file is rewritten when it is so many times what is in it that counts."""
_UNDATED = Moment(bytes(8), 0, 0)
"""Whoever needs the time of a state writes it into the state."""


class StateLog:
    """See above.

    Args:
        disk: the folder's file system calls.
    """

    def __init__(self, disk: Any) -> None:
        self.damaged = 0
        self.is_unsafe = False
        """A sync failed; nothing that is written after it is safe."""
        self._disk = disk
        self._live: dict[bytes, bytes] = {}
        self._live_bytes = 0
        self._file: Segment | None = None
        self._next = 1
        self._unsynced = False

    def open(self) -> dict[bytes, bytes]:
        """What an earlier process left; a torn end is left out, and damage is counted."""
        self._disk.prepare()
        for name in [name for name in self._disk.names() if name.endswith(SUFFIX)]:
            segment = open_segment(self._disk, name)
            if segment is None:
                self._disk.remove(name)  # cut before anything in it was promised
                continue
            for entry, _, _ in records(self._disk, segment):
                if entry is None:
                    self.damaged += 1
                else:
                    self._count(entry.key, entry.data)
                    self._next = max(self._next, entry.sequence + 1)
            self._next = max(self._next, segment.first + 1)
            self._disk.close(segment.file)
        self._rewrite()
        return dict(self._live)

    def write(self, key: bytes, state: bytes) -> None:
        """Write a state; an empty one is none. It is not safe yet."""
        if self._file is None or self._is_mostly_old():
            self._rewrite()
        segment = self._file
        assert segment is not None
        record = encode(self._entry(key, state), segment.salt)
        try:
            self._disk.write(segment.file, record, segment.end)
        except OSError:
            self._disk.cut(segment.file, segment.end)
            raise
        segment.end += len(record)
        self._unsynced = True
        self._count(key, state)

    def sync(self) -> None:
        """Make all that was written durable."""
        if self._unsynced and self._file is not None:
            # What the kernel could not write it takes for written from then on.
            self.is_unsafe = True
            self._disk.sync(self._file.file)
            self.is_unsafe = False
        self._unsynced = False

    def close(self) -> None:
        """Make all durable, and close."""
        if self._file is not None:
            try:
                self.sync()
            finally:
                self._disk.close(self._file.file)
                self._file = None

    @property
    def bytes_on_disk(self) -> int:
        """What the file takes."""
        return self._file.end if self._file is not None else 0

    def _entry(self, key: bytes, state: bytes) -> Entry:
        self._next += 1
        return Entry(key, state, _UNDATED, policy=Policy.LATEST_ONLY, sequence=self._next - 1)

    def _count(self, key: bytes, state: bytes) -> None:
        before = self._live.pop(key, None)
        if before is not None:
            self._live_bytes -= len(key) + len(before)
        if state:
            self._live[key] = state
            self._live_bytes += len(key) + len(state)

    def _is_mostly_old(self) -> bool:
        return self.bytes_on_disk > max(_LEAST_REWRITTEN, _MOSTLY_OLD * self._live_bytes)

    def _rewrite(self) -> None:
        """All that counts into a new file, durable before the old ones go."""
        made = make_segment(self._disk, self._next, bytes(8))
        try:
            for key, state in self._live.items():
                record = encode(self._entry(key, state), made.salt)
                self._disk.write(made.file, record, made.end)
                made.end += len(record)
            self._disk.sync(made.file)
        except OSError:
            self._disk.close(made.file)
            with contextlib.suppress(OSError):
                self._disk.remove(made.name)
            raise
        old, self._file, self._unsynced = self._file, made, False
        self._next += 1
        if old is not None:
            self._disk.close(old.file)
        for name in self._disk.names():
            if name.endswith(SUFFIX) and name != made.name:
                self._disk.remove(name)
