"""A small file that is kept twice: a lost or damaged copy loses nothing.

Each copy is replaced whole, one after the other; a lock keeps two processes from writing at once.
Which copy counts is its reader's decision. That it was written once is noted in a folder of its
own: where both copies are gone then, this is no new device. A few words can be noted with it, which
count while nothing else is known.

    <directory>/NAME.json    <directory>/NAME-2.json    <directory>/written/NAME
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from edged.errors import ApplyError
from edged.faults import fault
from edged.system.atomic import SHORT, make_directory, write_atomically

log = logging.getLogger("edged.store")

_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class Twice:
    """``NAME.json`` and ``NAME-2.json`` of one directory; of any process.

    Args:
        directory: is there when something is written.
        name: what both are called.
        cap_bytes: more than any of them has.
    """

    def __init__(self, directory: Path, name: str, cap_bytes: int) -> None:
        self._directory = directory
        self._name = name
        self._cap_bytes = cap_bytes
        self.copies = (f"{name}.json", f"{name}-2.json")
        self._mark = directory / "written" / name

    def read(self) -> Iterator[tuple[str, bytes | None]]:
        """The copies that are there, by name; None for one that cannot be read.

        None at all for a user who may not look into the directory, such as one who runs
        ``edged check``: they are not damaged, and nothing is taken in by that user.

        Raises:
            ApplyError: they are there, and what they say cannot be known now. Believed to be gone,
                they would let in again what they keep out.
        """
        for name in self.copies:
            try:
                fd = os.open(self._directory / name, os.O_RDONLY | _FLAGS)
                with os.fdopen(fd, "rb") as file:
                    data = file.read(self._cap_bytes + 1)
            except FileNotFoundError:
                continue
            except OSError as exc:
                if exc.errno in SHORT:
                    raise ApplyError(
                        f"{self._directory / name} cannot be read at the moment: {exc.strerror}; "
                        "try again"
                    ) from exc
                log.warning("%s cannot be read: %s", self._directory / name, exc.strerror)
                if exc.errno == errno.EACCES and not _may_look_into(self._directory):
                    return
                yield name, None
            else:
                yield name, data

    def was_written(self) -> bool:
        """Whether it was once; asked where neither copy is there.

        Raises:
            ApplyError: that cannot be known now.
        """
        try:
            self._mark.lstat()
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return False
        except OSError as exc:
            raise ApplyError(f"{self._mark} cannot be looked at: {exc.strerror}") from exc
        return True

    def noted(self) -> bytes:
        """The words noted with it; empty where there are none, or they cannot be read."""
        with contextlib.suppress(OSError):
            fd = os.open(self._mark, os.O_RDONLY | _FLAGS)
            with os.fdopen(fd, "rb") as file:
                return file.read(self._cap_bytes)
        return b""

    def write(self, data: bytes, words: bytes = b"") -> None:
        """Replace both; ask for ``locked`` before what is written is decided.

        Args:
            data: of each.
            words: see ``note``.

        Raises:
            OSError: the disk does not take it; each is the old or the new.
        """
        for name in self.copies:
            write_atomically(self._directory / name, data)
            self._hand_over(self._directory / name)
            fault(f"{self._name}.{name}")
        self.note(words)

    def note(self, words: bytes = b"") -> None:
        """Note that it was written; for one that is there, too: a cut may have come before that.

        Args:
            words: that count while both copies are lost.
        """
        try:
            self._note(words)
        except OSError as exc:  # both are there, which is what was asked for
            log.warning("%s cannot be noted: %s", self._mark, exc.strerror)

    def _note(self, words: bytes) -> None:
        if os.path.lexists(self._mark) and self.noted() == words:
            return
        make_directory(self._mark.parent)
        # By the folder itself: who owns the directory could lead root elsewhere by a link.
        folder = os.open(self._mark.parent, os.O_RDONLY | os.O_DIRECTORY | _FLAGS)
        try:
            self._hand_over(folder)
            made = f".{self._mark.name}.new"
            with contextlib.suppress(FileNotFoundError):
                os.unlink(made, dir_fd=folder)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS
            with os.fdopen(os.open(made, flags, 0o600, dir_fd=folder), "wb") as mark:
                self._hand_over(mark.fileno())
                mark.write(words)
                mark.flush()
                os.fsync(mark.fileno())
            os.rename(made, self._mark.name, src_dir_fd=folder, dst_dir_fd=folder)
            os.fsync(folder)
        finally:
            os.close(folder)

    def remove(self) -> bool:
        """Remove both; whether there was one. A cut on the way leaves them as they were."""
        found = False
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            folder = os.open(self._mark.parent, os.O_RDONLY | os.O_DIRECTORY | _FLAGS)
            try:
                os.unlink(self._mark.name, dir_fd=folder)
                os.fsync(folder)
                found = True
            finally:
                os.close(folder)
        for name in self.copies:
            with contextlib.suppress(FileNotFoundError):
                (self._directory / name).unlink()
                found = True
        return found

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Alone among all processes."""
        path = self._directory / f"{self._name}.lock"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | _FLAGS, 0o600)
        try:
            self._hand_over(path)
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _hand_over(self, path: Path | int) -> None:
        """What an operator wrote as root: the daemon is another user, and has to read it."""
        if os.geteuid() != 0:
            return
        owner = self._directory.stat()
        if isinstance(path, int):
            os.fchown(path, owner.st_uid, owner.st_gid)
        else:
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _may_look_into(directory: Path) -> bool:
    return os.access(directory, os.X_OK, effective_ids=True)
