"""Where what is fetched lies until it is installed: a folder of its own in the state directory.

Decides who may work on the files of one reference, what is remembered of it, and what nobody goes
on with; never what is fetched.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from edged import decoding
from edged.config.sources import Reference
from edged.errors import ApplyError, BusyError, IncompatibleError
from edged.specs import size_words
from edged.system.atomic import write_atomically

FOLDER = "downloads"
_RESERVE = 1.2
_OURS = re.compile(r"[0-9a-f]{32}\.(?:part|json|edgb|note|lock)", re.ASCII)
_NOTE_CAP_BYTES = 16 << 10
_KEPT_S = 30 * 24 * 3600.0


class Note(msgspec.Struct, frozen=True):
    """What became of the last bundle under a reference; anything else counts as none."""

    digest: str
    bundle: str = ""
    refused: str = ""
    against: str = ""


class Download:
    """The files of one reference.

    Args:
        state_dir: of the device.
        reference: what is fetched.
    """

    def __init__(self, state_dir: Path, reference: Reference) -> None:
        self.state_dir = state_dir
        self._folder = state_dir / FOLDER
        self._reference = reference
        self._key = hashlib.sha256(str(reference).encode()).hexdigest()[:32]

    def path(self, ending: str) -> Path:
        """The file of this kind."""
        return self._folder / f"{self._key}.{ending}"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """The folder, and the right to this reference's files.

        Raises:
            ApplyError: the folder cannot be written to.
            BusyError: somebody else is fetching the same.
        """
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            if self._folder.is_symlink():
                raise ApplyError(
                    f"{self._folder} is a link, which is not followed; make it a folder"
                )
            self._hand_over(self._folder)
            _sweep(self._folder)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(self.path("lock"), flags, 0o600)
            os.utime(fd)  # a lock is never written, and would grow old under whoever holds it
        except OSError as exc:
            raise self._unwritable(exc) from exc
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as exc:
                text = f"{self._reference} is being pulled already; try again later"
                raise BusyError(text) from exc
            yield
        finally:
            for ending in ("lock", "part", "json", "note"):
                self._hand_over(self.path(ending))
            os.close(fd)

    def check_room(self, size: int) -> None:
        """Go on if so many bytes may be written; raises IncompatibleError."""
        disk = os.statvfs(self._folder)
        free, wanted = disk.f_bavail * disk.f_frsize, int(size * _RESERVE)
        if free < wanted:
            raise IncompatibleError(
                f"{self._folder} has {size_words(free)} free; this download needs "
                f"{size_words(wanted)}; make room, then try again"
            )

    def clean(self) -> None:
        """Remove what was fetched."""
        for ending in ("part", "json", "edgb"):
            with contextlib.suppress(OSError):
                self.path(ending).unlink()

    def read_note(self) -> Note:
        """What became of the last one."""
        try:
            with self.path("note").open("rb") as file:
                return decoding.decode(file.read(_NOTE_CAP_BYTES), Note)
        except (OSError, ValueError, msgspec.MsgspecError):
            return Note("")

    def touch_note(self) -> None:
        """It is of use: without it, the bundle would be fetched anew."""
        with contextlib.suppress(OSError):
            os.utime(self.path("note"))

    def write_note(self, note: Note) -> None:
        """Remember what became of this one; raises ApplyError."""
        try:
            write_atomically(self.path("note"), msgspec.json.encode(note))
        except OSError as exc:
            raise self._unwritable(exc) from exc

    def _unwritable(self, exc: OSError) -> ApplyError:
        return ApplyError(f"cannot write to {self._folder}: {exc.strerror}")

    def _hand_over(self, path: Path) -> None:
        """What an operator made as root: the daemon is another user, and goes on with it."""
        if os.geteuid() == 0:
            with contextlib.suppress(OSError):
                owner = self.state_dir.stat()
                os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _sweep(folder: Path) -> None:
    """Remove what nobody went on with for a long time: its reference is asked for no more.

    Of our own names, in this very folder: the daemon's user owns it, and could have put a link in
    its place for root to follow.
    """
    oldest = time.time() - _KEPT_S
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        for name in filter(_OURS.fullmatch, os.listdir(fd)):  # noqa: PTH208
            with contextlib.suppress(OSError):
                if os.stat(name, dir_fd=fd, follow_symlinks=False).st_mtime < oldest:
                    os.unlink(name, dir_fd=fd)
    finally:
        os.close(fd)
