"""What leaves the store: releases that nothing needs any more, and room for those that come.

Decides which (``choose``, pure), and how: renamed out of the store, the store synced, and only then
unlinked, so that a power cut leaves a release whole or none of it. What is needed is told by those
who have the past and the present (``in_use``); when that cannot be read, nothing leaves.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from edged.errors import EdgedError, IncompatibleError
from edged.faults import fault
from edged.manifest import Manifest
from edged.specs import size_words
from edged.store.slots import Slots
from edged.store.stored import open_release
from edged.store.unchanged import Stamp, Unchanged, stamp_of
from edged.system.breath import breathe

log = logging.getLogger("edged.store")

_GONE = (FileNotFoundError, NotADirectoryError)


class Rules(Protocol):
    """What an operator says of it; see ``config/store.py``."""

    @property
    def max_bytes(self) -> int | None: ...  # noqa: D102

    @property
    def keep(self) -> int: ...  # noqa: D102


class Usual(NamedTuple):
    """The rules of a store of which nobody said anything."""

    max_bytes: int | None = None
    keep: int = 2


class Needed(NamedTuple):
    """What must stay.

    Args:
        digests: of releases.
        models: whose slots count; of others nobody knows any more.
    """

    digests: Collection[str]
    models: Collection[str]


class Entry(NamedTuple):
    """One release of the store.

    Args:
        digest: of its manifest.
        model: its model; empty when it is damaged and serves nothing.
        release: its number.
        size: bytes of its files.
        is_sure: False when the disk did not say; then it stays.
    """

    digest: str
    model: str
    release: int
    size: int
    is_sure: bool = True


class Plan(NamedTuple):
    """What goes, and what stays."""

    going: tuple[Entry, ...]
    staying: tuple[Entry, ...]

    def as_dict(self) -> dict[str, Any]:
        """For ``edged bundle gc``."""
        return {
            "going": [one._asdict() for one in self.going],
            "staying": len(self.staying),
            "staying_bytes": sum(one.size for one in self.staying),
        }


def choose(entries: Iterable[Entry], needed: Collection[str], keep: int) -> list[Entry]:
    """Those that may go, the oldest releases first; the newest ``keep`` of each model stay."""
    spare: dict[str, list[Entry]] = defaultdict(list)
    for one in entries:
        if one.digest not in needed and one.is_sure:
            spare[one.model].append(one)
    going = spare.pop("", [])
    for ones in spare.values():
        ones.sort(key=lambda one: one.release, reverse=True)
        going += ones[keep:]
    return sorted(going, key=lambda one: (bool(one.model), one.release))


def yielding(entries: Iterable[Entry], needed: Collection[str], keep: int) -> list[Entry]:
    """Those that may go for one that is asked for, in their order.

    First what would go anyway; then, of each model, the oldest of the ``keep`` that stay though
    unneeded: a spare release is no reason to refuse one that is wanted, and the newest goes last.
    """
    known, order = list(entries), dict[str, Entry]()
    for left in range(keep, -1, -1):
        for one in choose(known, needed, left):
            order.setdefault(one.digest, one)
    return list(order.values())


class Collector:
    """Keeps one store small; the repository's own part, under its mutex.

    Args:
        state_dir: of the store.
        mutex: held while anything is looked for and removed.
        slots: of the repository, once it is open.
        proven: digests that were found whole; those that go are taken out.
    """

    def __init__(
        self,
        state_dir: Path,
        mutex: threading.RLock,
        slots: Callable[[], Slots],
        proven: set[str],
    ) -> None:
        self._store, self._staging = state_dir / "store", state_dir / "staging"
        self._mutex, self._slots, self._proven = mutex, slots, proven
        self._known: dict[str, tuple[str, int]] = {}
        self._sizes: Unchanged[int] = Unchanged()
        self._claimed: set[str] = set()
        self._held = self._held_bytes = self._gone = self._gone_bytes = 0
        self._bound_bytes = 0
        self.rules: Rules = Usual()
        self.in_use: Callable[[], Needed] | None = None
        """Raises OSError when it cannot be known; None: nothing is ever removed."""

    def as_dict(self) -> dict[str, Any]:
        """For the status: as it was at the last look, and what left since the start."""
        cap = self.rules.max_bytes
        return {
            "releases": self._held,
            "bytes": self._held_bytes,
            "needed_bytes": self._bound_bytes,
            "max_bytes": None if cap is None else int(cap),
            "collected": self._gone,
            "collected_bytes": self._gone_bytes,
        }

    def claim(self, digest: str) -> None:
        """It was asked for by a change that is being built: it stays until that is decided."""
        self._claimed.add(digest)

    def settle(self) -> None:
        """What was being built is in effect, and part of what is in use.

        Raises:
            OSError: what is needed cannot be known, or the disk does not take it.
        """
        with self._mutex:
            self._claimed.clear()
            self.collect()

    def came(self, manifest: Manifest) -> None:
        """A release is in the store, which room was made for; the next look sums it up anew."""
        self._held += 1
        self._held_bytes += sum(member.size for member in manifest.members)

    def collect(self, *, dry_run: bool = False) -> Plan:
        """Remove what nothing needs.

        Raises:
            OSError: see ``settle``.
        """
        with self._mutex:
            entries = self._entries()
            self._held, self._held_bytes = len(entries), sum(one.size for one in entries)
            if self.in_use is None:
                return Plan((), tuple(entries))
            needed, forgotten = self._needed(self.in_use())
            self._bound_bytes = sum(
                one.size for one in entries if one.digest in needed or not one.is_sure
            )
            breathe()
            going = choose(entries, needed, self.rules.keep)
            breathe()
            if not dry_run:
                for model in forgotten:
                    self._slots().remove(model)
                self._remove(going)
            return Plan(tuple(going), tuple(one for one in entries if one not in going))

    def make_room(self, manifest: Manifest) -> None:
        """Remove what nothing needs until a bundle fits.

        Raises:
            IncompatibleError: it does not fit all the same.
            OSError: see ``settle``.
        """
        size = sum(member.size for member in manifest.members)
        with self._mutex:
            entries, cap = self._entries(), self.rules.max_bytes
            held = sum(one.size for one in entries)
            self._held, self._held_bytes = len(entries), held
            if self._fits(held, size, cap):
                return
            going = []
            if self.in_use is not None:
                needed, _ = self._needed(self.in_use())
                freed = 0
                for one in yielding(entries, needed, self.rules.keep):
                    if self._fits(held, size, cap, freed):
                        break
                    going.append(one)
                    held, freed = held - one.size, freed + one.size
            if cap is None or held + size <= cap:
                self._remove(going)
                return
        raise IncompatibleError(
            f"release {manifest.release} of {manifest.name} has {size_words(size)}, and the "
            f"{len(entries) - len(going)} releases that are needed have {size_words(held)}: "
            f"together more than store.max_bytes, {size_words(cap)}; raise it, or keep fewer "
            "configurations to go back to (store.generations)"
        )

    def _fits(self, held: int, size: int, cap: int | None, freed: int = 0) -> bool:
        return (cap is None or held + size <= cap) and not self._is_disk_short(size, freed)

    def _is_disk_short(self, size: int, freed: int) -> bool:
        """Once so much has left."""
        disk = os.statvfs(self._store)
        return disk.f_bavail * disk.f_frsize + freed < size * 6 // 5

    def _needed(self, needed: Needed) -> tuple[set[str], list[str]]:
        """Every digest that must stay, and the models whose slots nobody needs."""
        breathe()
        digests, forgotten = {*needed.digests, *self._claimed}, []
        for model in self._slots().models():
            breathe()
            if model in needed.models:
                digests |= self._slots().held(model)
            else:
                forgotten.append(model)
        return digests, forgotten

    def _entries(self) -> list[Entry]:
        return [
            self._entry(name)
            for name in os.listdir(self._store)  # noqa: PTH208 - of hundreds
            if len(name) == 64
        ]

    def _entry(self, digest: str) -> Entry:
        breathe()
        folder, size, is_sure = f"{self._store}/{digest}", 0, True
        try:
            size = self._size(folder, stamp_of(os.lstat(folder)))
            if digest not in self._known:
                manifest = open_release(self._store, digest).manifest
                self._known[digest] = manifest.name, manifest.release
        except OSError:
            is_sure = False
        except EdgedError as exc:
            is_sure = not isinstance(exc.__cause__, OSError) or isinstance(exc.__cause__, _GONE)
        return Entry(digest, *self._known.get(digest, ("", 0)), size, is_sure)

    def _size(self, folder: str, stamp: Stamp) -> int:
        """Of a release's files; added up only when one came or went."""
        known = self._sizes.get(folder, (stamp,))
        if known is not None:
            return known
        with os.scandir(folder) as files:
            size = sum(one.stat(follow_symlinks=False).st_size for one in files)
        self._sizes.keep(folder, (stamp,), size)
        return size

    def _count_gone(self, one: Entry) -> None:
        self._held, self._held_bytes = self._held - 1, self._held_bytes - one.size
        self._gone, self._gone_bytes = self._gone + 1, self._gone_bytes + one.size

    def _remove(self, going: Collection[Entry]) -> None:
        if not going:
            return
        trash = []
        for one in going:
            place = self._staging / secrets.token_hex(16)
            (self._store / one.digest).rename(place)
            fault("collect.renamed")
            trash.append(place)
            self._proven.discard(one.digest)
            self._known.pop(one.digest, None)
            self._count_gone(one)
        fd = os.open(self._store, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        fault("collect.synced")
        for place in trash:
            shutil.rmtree(place, ignore_errors=True)
            fault("collect.removed")
        names = ", ".join(f"{one.model}@{one.release}" for one in list(going)[:8] if one.model)
        log.info("%d releases that nothing needs left the store: %s", len(going), names)
