"""What runs of a release take on this device, kept so that a load need not measure it again.

One small file a digest, made new by rename and never synced: a lost one costs a measuring.

    measured/<digest>.json          {"<what it was measured with>": [[rows, nanoseconds], ...]}

Decides only what a file may hold; whether a figure is still believed is ``loading.py``'s decision.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
from collections.abc import Collection
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from edged.store.slots import check_digest

log = logging.getLogger("edged.store")

Runs = tuple[tuple[int, int], ...]
"""Pairs of rows and nanoseconds of a run, rows ascending from 1."""

_Number = Annotated[int, Meta(ge=1, lt=2**53)]
_FILE = msgspec.json.Decoder(
    dict[str, Annotated[tuple[tuple[_Number, _Number], ...], Meta(min_length=1, max_length=32)]]
)
_FILE_CAP_BYTES = 64 << 10
_KEPT = 24
"""Versions of runtimes, power modes and boards come and go; the last eight are enough, with three
figures each where a bundle has two precisions: one of each from their race, one from serving."""


class Measurements:
    """The figures of one state directory. Used by one thread at a time.

    Args:
        directory: made when missing; on a read-only disk they hold for the life of this process.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._known: dict[str, dict[str, Runs]] = {}

    def forget(self, known: Collection[str]) -> None:
        """Let go of releases that are in the store no longer."""
        with contextlib.suppress(OSError):
            for path in self._directory.iterdir():
                if path.name.removesuffix(".json") not in known:
                    path.unlink()

    def get(self, digest: str, setting: str) -> Runs:
        """What was noted last for a release and a setting; empty when nothing was."""
        if digest not in self._known:
            self._known[digest] = self._read(digest)
        return self._known[digest].get(setting, ())

    def note(self, digest: str, setting: str, runs: Runs) -> None:
        """Remember what was measured.

        Args:
            digest: of the release.
            setting: runtime, version and device, as one text.
            runs: as measured.
        """
        self.get(digest, setting)
        known = self._known[digest]
        known.pop(setting, None)
        known[setting] = runs
        for old in list(known)[:-_KEPT]:
            del known[old]
        try:
            self._write(digest, known)
        except OSError as exc:
            log.debug("what runs of %s take is not noted on disk: %s", digest[:12], exc.strerror)

    def _read(self, digest: str) -> dict[str, Runs]:
        try:
            with self._path(digest).open("rb") as file:
                found = _FILE.decode(file.read(_FILE_CAP_BYTES))
        except (OSError, ValueError, RecursionError, msgspec.MsgspecError):
            return {}
        return {setting: runs for setting, runs in found.items() if _is_ascending(runs)}

    def _write(self, digest: str, known: dict[str, Runs]) -> None:
        self._directory.mkdir(mode=0o700, exist_ok=True)
        path = self._path(digest)
        temporary = path.with_name(f".{path.name}.tmp")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
            file.write(msgspec.json.encode(known))
        temporary.replace(path)

    def _path(self, digest: str) -> Path:
        return self._directory / f"{check_digest(digest)}.json"


def _is_ascending(runs: Runs) -> bool:
    rows = [one for one, _ in runs]
    return rows[0] == 1 and all(first < second for first, second in itertools.pairwise(rows))
