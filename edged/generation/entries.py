"""The generations that a device keeps, as their folders say: each is written once, never changed.

Decides what of the folder counts: what is damaged is said in the log, and left alone.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta, Struct

from edged import decoding
from edged.store.unchanged import Unchanged, stamp_of
from edged.system.breath import breathe

log = logging.getLogger("edged.reload")

_FILE_CAP_BYTES = 1 << 20
_NAME = re.compile(r"[0-9]{8}", re.ASCII)
Number = Annotated[int, Meta(ge=0, lt=10**8)]


class Entry(Struct, frozen=True):
    """One generation.

    Args:
        generation: its number.
        digest: of its content (``candidate.content_digest``).
        at: when it took effect, seconds since 1970.
        origin: ``files``, ``desired`` (a document over MQTT), ``rollback`` or ``return``.
        releases: by model, the digests of the bundles that it served.
    """

    generation: Number
    digest: str
    at: float
    origin: str = "files"
    releases: dict[str, list[str]] = {}


class Pinned(NamedTuple):
    """What must not leave the store: generations would not come back without it."""

    models: set[str]
    digests: set[str]


class Entries:
    """Those of one history; read again only where another file lies there.

    Args:
        directory: of the history; need not be there.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._known: Unchanged[Entry] = Unchanged()

    def all(self) -> Iterator[Entry]:
        """Every one that is kept, ascending."""
        try:
            names = sorted(os.listdir(self._directory))  # noqa: PTH208 - with each change
        except OSError:
            return
        for name in filter(_NAME.fullmatch, names):
            breathe()
            try:
                entry = self._entry(name)
            except (OSError, msgspec.MsgspecError) as exc:
                log.warning("generation %d is damaged and left alone: %s", int(name), exc)
                continue
            if entry.generation == int(name):
                yield entry

    def pinned(self) -> Pinned:
        """What generations need to come back; raises OSError if that is unknown."""
        found = Pinned(set(), set())
        if not self._directory.exists():
            return found
        for name in os.listdir(self._directory):  # noqa: PTH208
            breathe()
            with contextlib.suppress(FileNotFoundError, NotADirectoryError, msgspec.MsgspecError):
                releases = self._entry(name).releases
                found.models.update(releases)
                found.digests.update(*releases.values())
        return found

    def _entry(self, name: str) -> Entry:
        path = f"{self._directory}/{name}/entry.json"
        stamp = stamp_of(os.stat(path))  # noqa: PTH116 - of all that are kept, several times
        known = self._known.get(path, (stamp,))
        if known is not None:
            return known
        with open(path, "rb") as file:  # noqa: PTH123
            is_same = stamp == stamp_of(os.fstat(file.fileno()))
            entry = decoding.decode(file.read(_FILE_CAP_BYTES), Entry)
        if is_same:
            self._known.keep(path, (stamp,), entry, stamp.size)
        return entry
