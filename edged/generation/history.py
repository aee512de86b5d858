"""The generations of a device on disk: what each was, which proved good, which are not tried again.

Decides the layout and makes every step crash-safe:

    DIRECTORY/00000012/           a copy of the files (``config/saved.py``), never changed
    DIRECTORY/00000012/entry.json which bundles it served, by model
    DIRECTORY/marks.json          what was learnt of them; replaced whole
    DIRECTORY/order.json          a generation that an operator wants back; removed when it was done

What is damaged counts as not there, and is said in the log. Values of secrets are in none of it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from edged import decoding
from edged.config.load import Snapshot, parse
from edged.config.problems import ConfigProblemsError
from edged.config.saved import read_copy, read_trust, write_copy
from edged.config.snapshot import Kept
from edged.faults import fault
from edged.generation.entries import Entries, Entry, Number, Pinned
from edged.system.atomic import SHORT, make_directory, sync_directory, write_atomically
from edged.system.breath import breathe

log = logging.getLogger("edged.reload")

KEPT = 20
"""Generations that stay on disk; some kilobytes each."""
CRASHES_CAP = 3
"""One more than takes the single release that is to blame into quarantine (``store/probation.py``):
only if the device dies all the same is the whole configuration to blame."""
STARTS_CAP = 6
"""Starts that never came to a confirmed end, whatever ended them: out of memory looks from here
like a power cut."""
_REJECTED_CAP = 64
_FILE_CAP_BYTES = 1 << 20
_NAME = re.compile(r"[0-9]{8}", re.ASCII)
T = TypeVar("T", bound=Struct)


class Rejection(Struct, frozen=True):
    """A content that is not applied again by itself.

    Args:
        digest: of the content.
        generation: its number, when it was in effect; else 0.
        at: since when, seconds since 1970.
        reason: why; one sentence.
        is_ordered: an operator went back from it; whom what came back trusts is their word too.
    """

    digest: str
    generation: Number
    at: float
    reason: str
    is_ordered: bool = False


class Trying(Struct, frozen=True):
    """A content that has to prove itself.

    Args:
        digest: of the content.
        starts: how often a daemon began with it, since it last ended in good order.
        crashes: how many of those died by their own doing.
    """

    digest: str
    starts: int = 1
    crashes: int = 0


class Marks(Struct, frozen=True):
    """What was learnt of generations."""

    confirmed: tuple[Number, ...] = ()
    rejected: tuple[Rejection, ...] = ()
    trying: Trying | None = None

    def rejection(self, digest: str) -> Rejection | None:
        """Why a content is not to be applied, if so."""
        return next((one for one in self.rejected if one.digest == digest), None)


class Order(Struct, frozen=True):
    """What an operator wants of the next reload or start.

    Args:
        generation: the one to go back to; 0 for the one before; None for none.
        again: take the files, also if they were set aside.
    """

    generation: Number | None = None
    again: bool = False


class History:
    """The history of one state directory. Every call waits for the disk.

    Args:
        directory: made when something is written.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._unwritten: Marks | None = None
        self._entries = Entries(directory)
        self._mutex = threading.RLock()

    def entries(self) -> list[Entry]:
        """Every generation that is kept, ascending."""
        return list(self._entries.all())

    def read(self, generation: int) -> Snapshot:
        """A generation, with its bundles as they are in the store.

        Raises:
            ConfigProblemsError: it is not kept, is damaged, or is not understood any more.
            OSError: it cannot be read.
        """
        folder = self._folder(generation)
        snapshot = parse(read_copy(folder, folder), folder)
        try:
            entry = _read(folder / "entry.json", Entry)
        except msgspec.MsgspecError as exc:
            raise ConfigProblemsError([snapshot.problem("", f"entry.json: {exc}")]) from None
        releases = {model: tuple(digests) for model, digests in entry.releases.items()}
        return replace(snapshot, kept=Kept(entry.generation, entry.digest, releases))

    def add(self, snapshot: Snapshot, entry: Entry) -> None:
        """Keep a generation; one that is kept already is not written again.

        One whose content proved good before counts as good.

        Raises:
            OSError: it cannot be written; nothing of it is there then.
        """
        folder = self._folder(entry.generation)
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            there = _read(folder / "entry.json", Entry).digest, read_trust(folder)
            if there == (entry.digest, snapshot.narrowed):
                return
        breathe()
        make_directory(self._directory)
        fresh = self._directory / f".new-{secrets.token_hex(8)}"
        try:
            write_copy(snapshot, fresh)
            write_atomically(fresh / "entry.json", msgspec.json.encode(entry))
            breathe()
            fault("history.written")
            # Of a number that was given before a crash.
            shutil.rmtree(folder, ignore_errors=True)
            fault("history.cleared")
            fresh.rename(folder)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        fault("history.renamed")
        sync_directory(self._directory)
        fault("history.synced")
        breathe()
        if self._is_confirmed(entry.digest, self.marks()):
            self.confirm(entry.generation, entry.digest)
        self._remove_old(entry.generation, snapshot.config.store.generations)

    def last_good(self, *unlike: str) -> Iterator[Snapshot]:
        """The generations that proved good and are as they were, the newest first.

        Args:
            unlike: digests that are not wanted.
        """
        marks, entries = self.marks(), self.entries()
        seen = {*unlike, *(one.digest for one in marks.rejected)}
        # By content: one that came back has a number of its own, and proved good under another.
        good = {one.digest for one in entries if one.generation in marks.confirmed}
        for entry in reversed(entries):
            if entry.digest not in good or entry.digest in seen:
                continue
            seen.add(entry.digest)
            try:
                yield self.read(entry.generation)
            except (ConfigProblemsError, OSError) as exc:
                log.warning("generation %d cannot be gone back to: %s", entry.generation, exc)

    def before(self) -> Snapshot | None:
        """The newest that proved good and is not what took effect last."""
        newest = self.entries()[-1:]
        return next(self.last_good(*(one.digest for one in newest)), None)

    def last_applied(self, *, has_crashed: bool) -> Snapshot | None:
        """What took effect last, unless it must not be started with again; else the last good."""
        for entry in self.entries()[-1:]:
            with contextlib.suppress(ConfigProblemsError, OSError):
                if not self.doubt(entry.digest, has_crashed=has_crashed):
                    return self.read(entry.generation)
        return self.before()

    def marks(self, *, to_write: bool = False) -> Marks:
        """What was learnt so far; raises OSError where it is to be written and cannot be known."""
        if self._unwritten is not None:
            return self._unwritten
        try:
            return _read(self._directory / "marks.json", Marks)
        except FileNotFoundError:
            return Marks()
        except (OSError, msgspec.MsgspecError) as exc:
            if to_write and isinstance(exc, OSError) and exc.errno in SHORT:
                raise
            log.warning("what was learnt of generations is lost: %s", exc)
            return Marks()

    def begin(self, digest: str, *, has_crashed: bool = False, is_boot: bool = False) -> bool:
        """Note that a content is about to be loaded; whether it has to prove itself.

        Args:
            digest: of the content.
            has_crashed: the run before died by its own doing.
            is_boot: this is a start of the daemon.

        Raises:
            OSError: it cannot be noted.
        """
        with self._mutex:
            marks = self.marks(to_write=True)
            if self._is_confirmed(digest, marks):
                if marks.trying is not None:
                    self._write(msgspec.structs.replace(marks, trying=None))
                return False
            trying, before = Trying(digest), marks.trying
            if is_boot and before is not None and before.digest == digest:
                trying = Trying(digest, before.starts + 1, before.crashes + has_crashed)
            if trying != before:
                self._write(msgspec.structs.replace(marks, trying=trying))
            return True

    def confirm(self, generation: int, digest: str) -> None:
        """Note that a generation proved good; raises OSError when that cannot be noted."""
        with self._mutex:
            marks = self.marks(to_write=True)
            if generation in marks.confirmed and marks.trying is None:
                return
            confirmed = tuple(sorted({*marks.confirmed, generation}))[-KEPT:]
            rejected = tuple(one for one in marks.rejected if one.digest != digest)
            self._write(Marks(confirmed, rejected))

    def reject(self, rejection: Rejection) -> None:
        """Never apply a content again by itself.

        Raises:
            OSError: it cannot be noted; it holds for the life of this object all the same.
        """
        with self._mutex:
            marks = self.marks(to_write=True)
            others = tuple(one for one in marks.rejected if one.digest != rejection.digest)
            rejected = (*others, rejection)[-_REJECTED_CAP:]
            confirmed = tuple(one for one in marks.confirmed if one != rejection.generation)
            self._write(Marks(confirmed, rejected))

    def lift(self, digest: str) -> None:
        """Let a content be applied again, with a clean sheet; raises OSError."""
        with self._mutex:
            marks = self.marks(to_write=True)
            rejected = tuple(one for one in marks.rejected if one.digest != digest)
            trying = marks.trying
            if trying is not None and trying.digest == digest:
                trying = Trying(digest, 0)
            if (rejected, trying) != (marks.rejected, marks.trying):
                self._write(Marks(marks.confirmed, rejected, trying))

    def end(self) -> None:
        """The daemon ends in good order: no start so far is held against the content."""
        with self._mutex:
            marks = self.marks(to_write=True)
            trying = marks.trying
            if trying is not None and trying != (fresh := Trying(trying.digest, 0)):
                self._write(msgspec.structs.replace(marks, trying=fresh))

    def doubt(self, digest: str, *, has_crashed: bool) -> str:
        """Why a content must not be started with once more; empty when it may."""
        marks = self.marks()
        rejection = marks.rejection(digest)
        if rejection is not None:
            return rejection.reason
        trying = marks.trying
        if trying is None or trying.digest != digest:
            return ""
        if trying.crashes + has_crashed >= CRASHES_CAP:
            return f"the daemon died {trying.crashes + has_crashed} times in a row with it"
        if trying.starts >= STARTS_CAP:
            return f"the daemon was started {trying.starts} times with it and never came to rest"
        return ""

    def order(self, order: Order) -> None:
        """Leave an order for the daemon; raises OSError."""
        make_directory(self._directory)
        path = self._directory / "order.json"
        write_atomically(path, msgspec.json.encode(order))
        if os.geteuid() == 0:  # the daemon is another user, and has to read it
            owner = self._directory.parent.stat()
            for made in (self._directory, path):
                os.chown(made, owner.st_uid, owner.st_gid, follow_symlinks=False)

    def ordered(self) -> Order | None:
        """What an operator wants; None for nothing."""
        try:
            return _read(self._directory / "order.json", Order)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as exc:
            log.warning("an order cannot be read and is forgotten: %s", exc)
            self.forget_order()
            return None

    def forget_order(self) -> None:
        """It was carried out, or cannot be."""
        with contextlib.suppress(OSError):
            (self._directory / "order.json").unlink()
            fault("order.forgotten")
            sync_directory(self._directory)  # or it would be done once more after a power cut

    def pinned(self) -> Pinned:
        """What generations need to come back; raises OSError if that is unknown."""
        return self._entries.pinned()

    def _is_confirmed(self, digest: str, marks: Marks) -> bool:
        kept = self._entries.all()
        return any(one.digest == digest and one.generation in marks.confirmed for one in kept)

    def _folder(self, generation: int) -> Path:
        return self._directory / f"{generation:08d}"

    def _write(self, marks: Marks) -> None:
        self._unwritten = marks
        make_directory(self._directory)
        fault("marks.before")
        write_atomically(self._directory / "marks.json", msgspec.json.encode(marks))
        fault("marks.written")
        self._unwritten = None

    def _remove_old(self, newest: int, kept: int) -> None:
        """Make room; the one in effect and the last that proved good stay. Raises nothing."""
        good = max(self.marks().confirmed, default=0)
        with contextlib.suppress(OSError):
            names = sorted(os.listdir(self._directory))  # noqa: PTH208 - of each change
            known = [one for one in names if _NAME.fullmatch(one)]
            old = [name for name in known[:-kept] if int(name) not in (newest, good)]
            for name in (*old, *(one for one in names if one.startswith(".new-"))):
                breathe()
                path = self._directory / name
                shutil.rmtree(path, ignore_errors=True)


def _read(path: Path, kind: type[T]) -> T:
    with path.open("rb") as file:
        return decoding.decode(file.read(_FILE_CAP_BYTES), kind)
