"""What was read of files, for as long as they do not change: nobody reads them again meanwhile.

Decides when a file counts as unchanged: it is the same inode with the same size and times. The time
of the inode's last change is among them, which no program can set: a file that was written in place
and given back its size and its time of modification is noticed all the same. What changed a moment
ago is never kept: the clock of a file system goes in steps, and a second change within one step
would leave no trace.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")

_REST_NS = 2_000_000_000
"""The longest step of a file system's clock (FAT's); on Linux' own it is some milliseconds."""


class Stamp(NamedTuple):
    """What tells a file from every other, and from itself after a change."""

    device: int
    inode: int
    mode: int
    owner: int
    size: int
    modified_ns: int
    changed_ns: int


Stamps = tuple[Stamp, ...]


def stamp_of(info: os.stat_result) -> Stamp:
    """The stamp of a file that was looked at."""
    # Of thousands of files with each change of a configuration: a call of Stamp is twice as slow.
    return tuple.__new__(
        Stamp,
        (
            info.st_dev,
            info.st_ino,
            info.st_mode,
            info.st_uid,
            info.st_size,
            info.st_mtime_ns,
            info.st_ctime_ns,
        ),
    )


class Unchanged(Generic[T]):
    """By name, what was made of files, and their stamps. Thread-safe.

    Args:
        cap: at most so many; those asked for longest ago go first.
        cap_bytes: the same for the sizes that ``keep`` was given.
        now_ns: nanoseconds since 1970.
    """

    def __init__(
        self,
        cap: int = 4096,
        cap_bytes: int = 16 << 20,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._cap = cap
        self._cap_bytes = cap_bytes
        self._now_ns = now_ns
        self._size_bytes = 0
        self._kept: OrderedDict[str, tuple[Stamps, T, int]] = OrderedDict()
        self._mutex = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, name: str, stamps: Iterable[Stamp]) -> T | None:
        """What was made of these very files; None when any is another by now."""
        with self._mutex:
            kept = self._kept.get(name)
            if kept is None or kept[0] != tuple(stamps):
                return None
            self._kept.move_to_end(name)
            return kept[1]

    def kept(self, name: str) -> tuple[Stamps, T] | None:
        """What was made of files, for who compares their stamps one by one."""
        with self._mutex:
            kept = self._kept.get(name)
            if kept is None:
                return None
            self._kept.move_to_end(name)
            return kept[0], kept[1]

    def keep(self, name: str, stamps: Iterable[Stamp], value: T, size_bytes: int = 0) -> None:
        """Keep what was made of files.

        Args:
            name: whose it is.
            stamps: as they were both before and after the files were read.
            value: what was made of them.
            size_bytes: what it takes, about.
        """
        known = tuple(stamps)
        rests_since = self._now_ns() - _REST_NS
        is_at_rest = all(max(one.changed_ns, one.modified_ns) < rests_since for one in known)
        with self._mutex:
            self._forget(name)
            if not is_at_rest:
                return
            self._kept[name] = known, value, size_bytes
            self._size_bytes += size_bytes
            while len(self._kept) > self._cap or self._size_bytes > self._cap_bytes:
                self._forget(next(iter(self._kept)))

    def _forget(self, name: str) -> None:
        kept = self._kept.pop(name, None)
        if kept is not None:
            self._size_bytes -= kept[2]
