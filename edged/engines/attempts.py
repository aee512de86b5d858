"""How often each engine failed to be built, on disk: a box that a build brings down knows it again.

    engines/attempts.json          {"<entry>": {"failures": 2, "why": "..."}, ...}

An attempt is counted before it begins and taken back when it ends well or is given up for another
reason; whoever is not there to take it back has failed.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from edged import decoding
from edged.engines.folder import replace_file
from edged.store.bundle import read_small
from edged.store.slots import DIRECTORY_FLAGS

_NAME = "attempts.json"
_CAP_BYTES = 256 << 10
_KEPT = 256
"""Engines of one device, with all that were there before."""


class Attempt(msgspec.Struct, frozen=True):
    """What became of the last ones.

    Args:
        failures: in a row.
        why: the last one failed; of one that ended without a word that it did not end.
    """

    failures: int = 0
    why: str = ""


UNENDED = "the device or the daemon went down during the build"


class Attempts:
    """The attempts of one state directory.

    Args:
        directory: the engine cache's.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._known: dict[str, Attempt] | None = None

    def get(self, name: str) -> Attempt:
        """Of one entry of the cache."""
        return self._read().get(name, Attempt())

    def begin(self, name: str) -> None:
        """Count one as failed, until it is known better."""
        self.note(name, Attempt(self.get(name).failures + 1, UNENDED))

    def note(self, name: str, attempt: Attempt) -> None:
        """Remember how the last one ended; without failures it is forgotten."""
        known = self._read()
        known.pop(name, None)
        if attempt.failures:
            known[name] = attempt
        for old in list(known)[:-_KEPT]:
            del known[old]
        with contextlib.suppress(OSError):  # a read-only disk costs another try after a restart
            self._write(known)

    def _read(self) -> dict[str, Attempt]:
        if self._known is None:
            self._known = {}
            with contextlib.suppress(OSError, msgspec.MsgspecError, ValueError):
                fd = os.open(self._directory, DIRECTORY_FLAGS)
                try:
                    data = read_small(fd, _NAME, _CAP_BYTES)
                finally:
                    os.close(fd)
                self._known = decoding.decode(data, dict[str, Attempt])
        return self._known

    def _write(self, known: dict[str, Attempt]) -> None:
        self._directory.mkdir(mode=0o700, exist_ok=True)
        fd = os.open(self._directory, DIRECTORY_FLAGS)
        try:
            replace_file(fd, _NAME, [msgspec.json.encode(known)])
        finally:
            os.close(fd)
