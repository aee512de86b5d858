"""Small notes by release and setting: what was found out once need not be found out again.

One small file a digest, made new by rename and never synced: a lost one costs finding out anew.

    <directory>/<digest>.json          {"<setting>": <what was found>, ...}

Decides only what a file may hold; whether it is still believed is the reader's decision.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from edged.store.slots import check_digest

T = TypeVar("T")

log = logging.getLogger("edged.store")

_FILE_CAP_BYTES = 64 << 10
"""What a start reads of each release; the oldest notes go before a file is larger."""
_KEPT = 24
"""Versions of runtimes, power modes and boards come and go; the last eight are enough, with three
figures each where a bundle has two precisions: one of each from their race, one from serving."""


class Notes(Generic[T]):
    """The notes of one directory. Used by one thread at a time.

    Args:
        directory: made when missing; on a read-only disk they hold for the life of this process.
        decoder: of a whole file.
        nothing: stands for what was not noted.
        is_good: what no type can say of a value.
    """

    def __init__(
        self,
        directory: Path,
        decoder: msgspec.json.Decoder[Any],
        nothing: T,
        is_good: Callable[[T], bool],
    ) -> None:
        self._directory = directory
        self._decoder = decoder
        self._nothing = nothing
        self._is_good = is_good
        self._known: dict[str, dict[str, T]] = {}

    def forget(self, known: Collection[str]) -> None:
        """Let go of releases that are in the store no longer."""
        with contextlib.suppress(OSError):
            for path in self._directory.iterdir():
                if path.name.removesuffix(".json") not in known:
                    path.unlink()

    def get(self, digest: str, setting: str) -> T:
        """What was noted last for a release and a setting; ``nothing`` when nothing was."""
        if digest not in self._known:
            self._known[digest] = self._read(digest)
        return self._known[digest].get(setting, self._nothing)

    def all(self, digest: str) -> dict[str, T]:
        """By setting, all that is known of a release, the newest last."""
        if digest not in self._known:
            self._known[digest] = self._read(digest)
        return dict(self._known[digest])

    def note(self, digest: str, setting: str, value: T) -> None:
        """Remember what was found.

        Args:
            digest: of the release.
            setting: all that it depends on, as one text.
            value: as found.
        """
        self.get(digest, setting)
        known = self._known[digest]
        known.pop(setting, None)
        known[setting] = value
        for old in list(known)[:-_KEPT]:
            del known[old]
        while len(known) > 1 and len(msgspec.json.encode(known)) > _FILE_CAP_BYTES:
            del known[next(iter(known))]
        try:
            self._write(digest, known)
        except OSError as exc:
            what = self._directory.name
            log.debug("%s of %s are not noted on disk: %s", what, digest[:12], exc.strerror)

    def _read(self, digest: str) -> dict[str, T]:
        try:
            with self._path(digest).open("rb") as file:
                found = self._decoder.decode(file.read(_FILE_CAP_BYTES))
        except (OSError, ValueError, RecursionError, msgspec.MsgspecError):
            return {}
        return {setting: value for setting, value in found.items() if self._is_good(value)}

    def _write(self, digest: str, known: dict[str, T]) -> None:
        self._directory.mkdir(mode=0o700, exist_ok=True)
        path = self._path(digest)
        temporary = path.with_name(f".{path.name}.tmp")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
            file.write(msgspec.json.encode(known))
        temporary.replace(path)

    def _path(self, digest: str) -> Path:
        return self._directory / f"{check_digest(digest)}.json"
