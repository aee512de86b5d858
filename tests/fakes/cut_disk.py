"""A disk whose power can be cut: what was not synced may be there, half there, or gone."""

from __future__ import annotations

import errno
import random
from dataclasses import dataclass, field


@dataclass
class _File:
    content: bytearray = field(default_factory=bytearray)
    durable: bytes = b""
    writes: list[tuple[int, bytes]] = field(default_factory=list)  # since the last sync


class CutDisk:
    """As ``edged.outbox.disk.Disk``, in memory.

    Args:
        syncs: False: the negative control, ``sync`` and ``sync_names`` only pretend.
        capacity: bytes; more raises ENOSPC after a part was written.
    """

    def __init__(self, *, syncs: bool = True, capacity: int = 1 << 40) -> None:
        self.capacity = capacity
        self.fails_sync = False
        self.syncs_done = 0
        self._syncs = syncs
        self._files: dict[str, _File] = {}
        self._durable_names: dict[str, _File] = {}
        self._open: dict[int, _File] = {}
        self._next = 3

    def prepare(self) -> None:
        pass

    def names(self) -> list[str]:
        return sorted(self._files)

    def open(self, name: str, *, create: bool = False) -> int:
        if create:
            if name in self._files:
                raise FileExistsError(errno.EEXIST, "exists", name)
            self._files[name] = _File()
        self._next += 1
        self._open[self._next] = self._files[name]
        return self._next

    def close(self, file: int) -> None:
        del self._open[file]

    def size(self, file: int) -> int:
        return len(self._open[file].content)

    def read(self, file: int, size: int, offset: int) -> bytes:
        return bytes(self._open[file].content[offset : offset + size])

    @property
    def used(self) -> int:
        return sum(len(one.content) for one in self._files.values())

    def write(self, file: int, data: bytes, offset: int) -> None:
        found = self._open[file]
        grows = max(0, offset + len(data) - len(found.content))
        over = max(0, self.used + grows - self.capacity)
        part = data[: len(data) - over] if over else data
        self._apply(found.content, offset, part)
        found.writes.append((offset, bytes(part)))
        if over:
            raise OSError(errno.ENOSPC, "No space left on device")

    @staticmethod
    def _apply(content: bytearray, offset: int, data: bytes) -> None:
        if len(content) < offset:
            content.extend(bytes(offset - len(content)))
        content[offset : offset + len(data)] = data

    def cut(self, file: int, size: int) -> None:
        found = self._open[file]
        del found.content[size:]
        found.writes = [(at, data[: max(0, size - at)]) for at, data in found.writes]

    def sync(self, file: int) -> None:
        if self.fails_sync:
            raise OSError(errno.EIO, "Input/output error")
        self.syncs_done += 1
        if self._syncs:
            found = self._open[file]
            found.durable, found.writes = bytes(found.content), []

    def sync_names(self) -> None:
        if self._syncs:
            self._durable_names = dict(self._files)

    def remove(self, name: str) -> None:
        self._files.pop(name, None)

    def after_cut(self, rng: random.Random) -> CutDisk:
        """What the next boot finds: each unsynced write wholly, torn, or not; each name likewise."""
        found = CutDisk()
        names = {**self._durable_names, **self._files}
        for name, file in names.items():
            was_durable = name in self._durable_names
            is_there = name in self._files
            if not (was_durable and is_there) and rng.random() < 0.5:
                continue
            content = bytearray(file.durable)
            for offset, data in file.writes:
                fate = rng.random()
                if fate < 0.4:
                    self._apply(content, offset, data)
                elif fate < 0.7:
                    self._apply(content, offset, data[: rng.randrange(len(data) + 1)])
            found._files[name] = _File(content, bytes(content))
        found._durable_names = dict(found._files)
        return found

    def damage(self, name: str, offset: int) -> None:
        """Turn one byte over."""
        self._files[name].content[offset] ^= 0xFF

    def after_kill(self) -> CutDisk:
        """What the next process finds after kill -9: everything that was written."""
        found = CutDisk()
        found._files = {name: _File(f.content, bytes(f.content)) for name, f in self._files.items()}
        found._durable_names = dict(found._files)
        return found
