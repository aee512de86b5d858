"""What is remembered of rollouts across restarts: where each is, its figures, and how others ended.

    <state>/rollouts/<model>.json

Decides only what a file may hold. A file that cannot be read counts as none: then a rollout begins
anew, with the same keys on the same sides, for those need no memory.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct, field

from edged.rollout.judge import NEXT, Phase
from edged.rollout.tally import Tally
from edged.system.atomic import make_directory

log = logging.getLogger("edged.rollout")

_FILE_CAP_BYTES = 1 << 20
_KEPT = 20
"""Rollouts of a model that ended, the newest; a record is some kilobytes."""

Write = Callable[[Path, bytes], None]
"""Replaces a file so that a power cut leaves the old or the new; raises OSError."""


class Entry(Struct):
    """One rollout.

    Args:
        identity: of what is tried against what; another one is another rollout.
        stable: the release.
        canary: the release; 0 without one.
        phase: where it is.
        reason: why.
        began: wall-clock time, seconds since 1970.
        ended: likewise, or when another took its place; 0 while it goes on.
        tally: its figures.
    """

    identity: str
    stable: Annotated[int, Meta(ge=1)]
    canary: Annotated[int, Meta(ge=0)]
    phase: Phase = Phase.RUNNING
    reason: str = ""
    began: float = 0.0
    ended: float = 0.0
    tally: Tally = field(default_factory=Tally)

    def move(self, phase: Phase, reason: str, now: float) -> None:
        """Go on to another phase; one that the table does not allow is a bug and raises."""
        if phase not in NEXT[self.phase]:
            raise AssertionError(f"{phase.value} does not follow {self.phase.value}")
        self.phase, self.reason = phase, reason
        if not NEXT[phase]:
            self.ended = now


class _File(Struct):
    now: Entry
    before: list[Entry] = field(default_factory=list)


class Ledger:
    """The files of one state directory.

    Args:
        directory: made with the first file.
        write: replaces a file.
    """

    def __init__(self, directory: Path, write: Write) -> None:
        self._directory = directory
        self._write = write
        self._files: dict[str, _File] = {}

    def read(self) -> None:
        """Read every file; before anything else is asked."""
        try:
            paths = sorted(self._directory.glob("*.json"))
        except OSError:
            return
        for path in paths:
            try:
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
                with os.fdopen(os.open(path, flags), "rb") as file:
                    self._files[path.stem] = msgspec.json.decode(
                        file.read(_FILE_CAP_BYTES), type=_File
                    )
            except (OSError, ValueError, RecursionError, msgspec.MsgspecError) as exc:
                log.warning("%s counts as empty: %s", path, exc)

    def entry(self, model: str, identity: str) -> Entry | None:
        """This rollout, as far as it has come; None where it is not remembered."""
        file = self._files.get(model)
        known = [] if file is None else [*file.before, file.now]
        return next((one for one in reversed(known) if one.identity == identity), None)

    def before(self, model: str) -> list[Entry]:
        """Those that others took the place of, oldest first."""
        file = self._files.get(model)
        return list(file.before) if file is not None else []

    def begin(self, model: str, entry: Entry, now: float) -> None:
        """Another rollout takes the place of the last one; it may be one that was there before.

        A configuration may come back, and a release that was rolled back is not tried again for it.
        One that was under way goes on then.

        Args:
            model: its name.
            entry: the rollout that is looked at from now on.
            now: wall-clock time, seconds since 1970.
        """
        file = self._files.get(model)
        if file is None:
            self._files[model] = _File(entry)
            return
        if file.now is not entry:
            others = [one for one in (*file.before, file.now) if one is not entry]
            if NEXT[file.now.phase]:
                file.now.ended = now
            if NEXT[entry.phase]:
                entry.ended = 0.0
            file.before, file.now = others[-_KEPT:], entry

    def snapshot(self, model: str) -> bytes:
        """What ``save`` writes; on the loop, for the figures change there.

        Of a model with very many tensors fewer of those before are kept: more would not be read.
        """
        file = self._files[model]
        data = msgspec.json.encode(file)
        while len(data) > _FILE_CAP_BYTES and file.before:
            del file.before[: -(-len(file.before) // 2)]
            data = msgspec.json.encode(file)
        return data

    def save(self, model: str, data: bytes) -> None:
        """Write a file, on any thread; raises OSError."""
        make_directory(self._directory)
        self._write(self._directory / f"{model}.json", data)
