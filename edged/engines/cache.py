"""The engines that were built on this device, as files: verified when read, whole when written.

    engines/device.key                     the key of ``seal.py``, unless systemd gives one
    engines/<source>-<host>.engine         an entry of ``entry.py``, mode 0600

Decides which of them go when room is short (``choose_victims``). A file that is not exactly what it
should be is thrown out before anybody deserialises it, counted by what was wrong, and logged.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from edged.engines.entry import (
    HEAD_CAP_BYTES,
    Record,
    Refusal,
    Source,
    encode_entry,
    entry_name,
    make_record,
    open_entry,
    read_record,
    source_key,
)
from edged.engines.folder import locked
from edged.engines.seal import Seal, file_problem, open_seal, own_file, owners
from edged.errors import LoadError
from edged.faults import fault
from edged.runtimes.engine import Engine, Host, differences
from edged.store.bundle import write_file
from edged.store.slots import DIRECTORY_FLAGS

log = logging.getLogger("edged.engines")

ENTRY_CAP_BYTES = 4 << 30
"""A bundle holds no larger engine either."""
_NAME = re.compile(r"[0-9a-f]{32}-[0-9a-f]{32}\.engine", re.ASCII)
_TEMPORARY = re.compile(r"\..*\.(engine|json)-[0-9a-f]{16}|\.timings-[0-9a-f]{16}", re.ASCII)
_LISTED = 4096
"""More entries are not looked at: a model has a few, and a folder full of junk costs no minutes."""


class Found(NamedTuple):
    """What the cache has.

    Args:
        data: the engine's file, for ``runtimes/tensorrt.py``; None when there is none to use.
        why: why there is none; empty when there is one.
    """

    data: bytes | None
    why: str = ""


class Kept(NamedTuple):
    """One entry, as it lies there.

    Args:
        name: of the file.
        record: what it is.
        size: bytes of the file.
        used_at: when it was last read or written, seconds since 1970.
    """

    name: str
    record: Record
    size: int
    used_at: float


class EngineCache:
    """The engines of one state directory. Used by several threads and processes at once.

    Args:
        directory: made when missing.
        cap_bytes: of all entries together.
    """

    def __init__(self, directory: Path, cap_bytes: int) -> None:
        self._directory = directory
        self.cap_bytes = cap_bytes
        self._seal: Seal | None = None
        self.refused: Counter[str] = Counter()
        """Entries that were thrown out, by ``Refusal.kind``."""

    def find(self, source: Source, host: Host) -> Found:
        """The engine of a source for this device, its bytes verified; they are what is loaded.

        Args:
            source: of what it must have been built.
            host: what this device is now.
        """
        try:
            with self._opened() as fd:
                return self._find(fd, source, host)
        except FileNotFoundError:
            return Found(None, "no engine was built for it on this device")
        except OSError as exc:
            return Found(None, f"the engine cache cannot be read: {exc.strerror}")
        except LoadError as exc:
            return Found(None, exc.message)

    def keep(self, source: Source, engine: Engine, model: str) -> int:
        """Seal an engine and keep it, whole or not at all.

        Returns:
            Bytes that it takes.

        Raises:
            LoadError: there is no key to seal it with, or it alone is over the cap.
            OSError: it cannot be written.
        """
        self._directory.mkdir(mode=0o700, exist_ok=True)
        data = engine.encode()
        record = make_record(source, engine, data, model, int(time.time()))
        with self._opened() as fd, locked(fd):
            parts = encode_entry(self._key(), record, data)
            size = sum(map(len, parts))
            if size > min(self.cap_bytes, ENTRY_CAP_BYTES):
                raise LoadError(
                    f'model "{model}": the engine has {size} bytes; engines.cache_size allows '
                    f"{self.cap_bytes} for all"
                )
            name = entry_name(source, record.host)
            self._make_room(fd, size, name)
            temporary = f".{name}-{secrets.token_hex(8)}"
            try:
                write_file(fd, temporary, iter(parts))
                own_file(fd, temporary)
                fault("engine.written")
                os.rename(temporary, name, src_dir_fd=fd, dst_dir_fd=fd)
                fault("engine.renamed")
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary, dir_fd=fd)
                raise
            os.fsync(fd)
        return size

    def entries(self) -> list[Kept]:
        """What is there, by name; what is not ours is thrown out."""
        try:
            with self._opened() as fd:
                return self._entries(fd)
        except (OSError, LoadError):
            return []

    def collect(self, bundles: Collection[str], host: Host | None) -> int:
        """Let go of what nobody will ask for again, and of what crashes left half written.

        Args:
            bundles: digests that are still in the store.
            host: what this device is now; None where that is not known.

        Returns:
            Bytes that came free.
        """
        try:
            with self._opened() as fd, locked(fd, wait=False):
                self._sweep(fd)
                kept = self._entries(fd)
                return _remove(fd, choose_victims(kept, bundles, host, self.cap_bytes))
        except (OSError, LoadError):
            return 0

    def _find(self, fd: int, source: Source, host: Host) -> Found:
        name = entry_name(source, host)
        data = self._read(fd, name, ENTRY_CAP_BYTES)
        if data is None:
            return Found(None, self._other(fd, source, host))
        if isinstance(data, bytes):
            data = open_entry(self._key(), source, host, data)
        if isinstance(data, Refusal):
            self._throw_out(fd, name, data)
            return Found(None, f"the kept engine was thrown out: {data.why}")
        with contextlib.suppress(OSError):  # a read-only disk keeps its order
            os.utime(name, dir_fd=fd, follow_symlinks=False)
        return Found(data)

    def _other(self, fd: int, source: Source, host: Host) -> str:
        """Why there is none, where one for another release of TensorRT or driver is there."""
        prefix = f"{source_key(source)}-"
        for kept in self._entries(fd, prefix):
            if wrong := differences(kept.record.host, host):
                return f"the kept engine was built for {'; '.join(wrong)}"
        return "no engine was built for it on this device"

    def _entries(self, fd: int, prefix: str = "") -> list[Kept]:
        found = []
        for name in sorted(os.listdir(fd))[:_LISTED]:
            if not (_NAME.fullmatch(name) and name.startswith(prefix)):
                continue
            start = self._read(fd, name, HEAD_CAP_BYTES, is_whole=False)
            if start is None:
                continue
            record = read_record(self._key(), start) if isinstance(start, bytes) else start
            if isinstance(record, Refusal):
                self._throw_out(fd, name, record)
                continue
            with contextlib.suppress(FileNotFoundError):
                info = os.stat(name, dir_fd=fd, follow_symlinks=False)
                found.append(Kept(name, record, info.st_size, info.st_mtime))
        return found

    def _read(
        self, fd: int, name: str, cap_bytes: int, *, is_whole: bool = True
    ) -> bytes | Refusal | None:
        """A file's bytes, in memory of ours; None where there is none."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            opened = os.open(name, flags, dir_fd=fd)
        except FileNotFoundError:
            return None
        except OSError as exc:
            return Refusal("file", f"it cannot be opened: {exc.strerror}")
        with os.fdopen(opened, "rb") as file:
            info = os.fstat(opened)
            if problem := file_problem(info, owners(fd)):
                return Refusal("file", problem)
            if is_whole and info.st_size > cap_bytes:
                return Refusal("file", f"it has {info.st_size} bytes; the limit is {cap_bytes}")
            return file.read(cap_bytes)

    def _throw_out(self, fd: int, name: str, refusal: Refusal) -> None:
        self.refused[refusal.kind] += 1
        log.error("engine cache: %s is thrown out: %s", name[:12], refusal.why)
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=fd)

    def _make_room(self, fd: int, size: int, name: str) -> None:
        kept = [one for one in self._entries(fd) if one.name != name]
        _remove(fd, oldest_over(kept, self.cap_bytes - size))

    def _sweep(self, fd: int) -> None:
        """Temporary files of writers that are gone; whoever writes an entry holds the lock."""
        for name in os.listdir(fd):
            if _TEMPORARY.fullmatch(name):
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=fd)

    def _key(self) -> Seal:
        if self._seal is None:
            self._seal = open_seal(self._directory)
        return self._seal

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        fd = os.open(self._directory, DIRECTORY_FLAGS)
        try:
            info = os.fstat(fd)
            if info.st_uid not in owners(fd) or info.st_mode & 0o022:
                raise LoadError(
                    "the engine cache is not used: its folder belongs to another user, or others "
                    "may write into it; expected mode 0700"
                )
            yield fd
        finally:
            os.close(fd)


def choose_victims(
    kept: Sequence[Kept], bundles: Collection[str], host: Host | None, cap_bytes: int
) -> list[Kept]:
    """Entries that go: of bundles that are gone, for what the device was before, and the oldest.

    An engine for an older host stays until there is one for this host of the same source: whoever
    goes back to the former TensorRT or driver finds it.

    Args:
        kept: what is there.
        bundles: digests that are still in the store.
        host: what this device is now; None where that is not known.
        cap_bytes: of all together.
    """
    here = {source_key(one.record.source) for one in kept if one.record.host == host}
    gone = [
        one
        for one in kept
        if one.record.source.bundle not in bundles
        or (one.record.host != host and source_key(one.record.source) in here)
    ]
    names = {one.name for one in gone}
    return gone + oldest_over([one for one in kept if one.name not in names], cap_bytes)


def oldest_over(kept: Sequence[Kept], cap_bytes: int) -> list[Kept]:
    """Those that were not used for longest, until the others fit."""
    total = sum(one.size for one in kept)
    victims = []
    for one in sorted(kept, key=lambda each: (each.used_at, each.name)):
        if total <= cap_bytes:
            break
        victims.append(one)
        total -= one.size
    return victims


def _remove(fd: int, victims: Sequence[Kept]) -> int:
    freed = 0
    for one in victims:
        with contextlib.suppress(OSError):
            os.unlink(one.name, dir_fd=fd)
            freed += one.size
    return freed
