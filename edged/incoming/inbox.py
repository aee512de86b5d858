"""The inbox: a folder that bundles and trust documents are dropped into, by whatever brings them.

Decides when a file is complete, and what becomes of it: installed and gone, or moved to ``refused``
with a file that says why, or kept while this device has no room. Nothing is believed of a file but
what ``installing.py`` and ``generation/trusted.py`` verify. Each step is a rename, so that a cut
repeats one; a file whose verification ended the daemon twice is refused unread. Who owns the folder
may exchange what is in it, also our two folders: they are ours, and held open while we work there.

    <folder>/NAME.edgb  NAME.trust    dropped; other endings and hidden names are passed over
    <folder>/.taken/                  being verified: nobody else has it by that name any more
    <folder>/refused/NAME  NAME.txt   what was wrong with it
"""

from __future__ import annotations

import bisect
import contextlib
import errno
import fcntl
import logging
import os
import shutil
import signal
import stat
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from edged.config.problems import ConfigProblemsError
from edged.errors import ApplyError, BundleError, EdgedError
from edged.faults import fault
from edged.incoming.installing import NoPlaceError

log = logging.getLogger("edged.inbox")

BUNDLE, TRUST = ".edgb", ".trust"
TAKEN, REFUSED, AGAIN = ".taken", "refused", ".again"
_MOST_FILES = 256
"""Looked at in one turn; the next begins behind them, so that what stays there holds up nobody."""
_MOST_REFUSED = 32
"""Older ones are removed: nobody may fill a disk with what is refused."""
_LONGEST_NAME = 200
_FIXED = (errno.EPERM, errno.EBUSY)
"""Says of one file that it cannot be moved: immutable, mounted there, of others in a sticky folder.
What is wrong with the folder, the disk or us stops all of them, and is told as such."""
_OWN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LOOK = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY

Stamp = tuple[int, int, int, int]
"""Inode, size, and the times of content and of status."""
Deliver = Callable[[Path], str]
"""Verifies a file and takes it in; says what was done, and raises EdgedError."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of files, since the daemon started.

    Args:
        installed: taken in.
        refused: moved aside.
        waiting: not complete at the last look, or kept for want of room.
        last: what was said of the last one.
        problem: why files have to wait, or the folder cannot be used; empty when neither.
    """

    installed: int = 0
    refused: int = 0
    waiting: int = 0
    last: str = ""
    problem: str = ""


class Settled:
    """When files are complete: nobody has them open for writing, or they have long been the same.

    Pure but for what is told: takes the time as an argument.
    """

    def __init__(self) -> None:
        self._since: dict[str, tuple[Stamp, int]] = {}

    def is_complete(
        self, name: str, stamp: Stamp, now_ns: int, quiet_ns: int, is_free: bool | None
    ) -> bool:
        """Whether a file may be taken.

        Args:
            name: of the file.
            stamp: as it is now.
            now_ns: monotonic time.
            quiet_ns: how long it must have been the same where nobody knows who writes.
            is_free: whether nobody writes; None where that is not known.
        """
        before, since = self._since.get(name, (None, now_ns))
        if before != stamp:
            self._since[name] = (stamp, since := now_ns)
        if is_free is not None:
            return is_free
        return now_ns - since >= quiet_ns

    def keep(self, names: Collection[str]) -> None:
        """Forget all others."""
        self._since = {name: seen for name, seen in self._since.items() if name in names}


class Inbox:
    """One folder. Used by one thread at a time.

    Args:
        folder: as configured.
        users: user ids whose files are taken, beside root's and our own.
        quiet_ns: see ``Settled``.
        bundle: takes in a bundle.
        trust: takes in a trust document.
    """

    def __init__(
        self, folder: Path, users: Collection[int], quiet_ns: int, bundle: Deliver, trust: Deliver
    ) -> None:
        self.folder = folder
        self._owners = {0, os.geteuid(), *users}
        self._quiet_ns = quiet_ns
        self._deliver = {BUNDLE: bundle, TRUST: trust}
        self._settled = Settled()
        self._taken, self._refused = folder / TAKEN, folder / REFUSED
        self._unmovable: dict[str, Stamp] = {}
        self._last = ""
        self.tally = Tally()

    def start(self) -> None:
        """What a daemon before left behind: tried once more, and not a third time.

        Raises:
            ApplyError: the folder cannot be used.
        """
        with self._opened():
            for path in sorted(self._taken.iterdir()):
                if path.name.endswith(AGAIN):
                    self._refuse(path, "the daemon ended twice while this was verified")
                else:
                    path.rename(path.with_name(path.name + AGAIN))
        fault("inbox.started")

    def look(self, now_ns: int, busy: Collection[str], *, retry: bool) -> bool:
        """Take in what is complete.

        Args:
            now_ns: monotonic time.
            busy: names that are being written, as far as that was noticed.
            retry: also what had to wait for room.

        Returns:
            Whether something was installed.

        Raises:
            ApplyError: the folder cannot be used.
        """
        with self._opened():
            return self._look(now_ns, busy, retry=retry)

    def _look(self, now_ns: int, busy: Collection[str], *, retry: bool) -> bool:
        before = self.tally.installed
        problem = "" if retry else self.tally.problem
        known = self._names()
        names = self._turn(known)
        waiting = len(known) - len(names)
        for name in names:
            if self._is_ready(name, now_ns, is_busy=name in busy) and self._have(name):
                fault("inbox.taken")
                problem = self._take(self._taken / name) or problem
            else:
                waiting += 1
        there = set(known)
        self._settled.keep(there)
        self._unmovable = {name: seen for name, seen in self._unmovable.items() if name in there}
        kept = sorted(self._taken.iterdir())
        for path in kept if retry else ():
            problem = self._take(path) or problem
        left = sum(1 for _ in self._taken.iterdir())
        self._note(waiting=waiting + left, problem=problem if left else "")
        return self.tally.installed > before

    @contextlib.contextmanager
    def _opened(self) -> Iterator[None]:
        """Only a folder that not everybody writes to; those inside are made, and held open."""
        with contextlib.ExitStack() as stack:
            try:
                self._check()
                self._taken = self._own(TAKEN, 0o700, stack)
                self._refused = self._own(REFUSED, 0o755, stack)
                yield
            except OSError as exc:
                raise ApplyError(f"{self.folder} cannot be used: {exc.strerror}") from exc

    def _check(self) -> None:
        info = self.folder.stat()
        if info.st_mode & stat.S_IWOTH:
            raise ApplyError(f"{self.folder} can be written by every user; run: chmod o-w on it")
        if info.st_uid not in self._owners:
            raise ApplyError(
                f"{self.folder} belongs to user id {info.st_uid}; expected root, the daemon's "
                "user or one of inbox.users"
            )

    def _own(self, name: str, mode: int, stack: contextlib.ExitStack) -> Path:
        """One of our folders, by a name that leads to it wherever somebody moves it."""
        path = self.folder / name
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=mode)
        if not stat.S_ISDIR(path.lstat().st_mode):
            raise ApplyError(f"{path} is no folder; remove it")
        fd = os.open(path, _OWN)
        stack.callback(os.close, fd)
        info = os.fstat(fd)
        if info.st_uid not in (0, os.geteuid()) or info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise ApplyError(
                f"{path} can be written by others than the daemon's user; remove it: the daemon "
                "makes its own"
            )
        return Path(f"/proc/self/fd/{fd}")

    def _names(self) -> list[str]:
        """Names that are meant for us, those first that come first by their name."""
        with os.scandir(self.folder) as entries:
            names = [
                one.name
                for one in entries
                if not one.name.startswith(".") and one.name.endswith((BUNDLE, TRUST))
            ]
        return sorted(names)

    def _turn(self, names: list[str]) -> list[str]:
        """Those that are looked at now: of more than a turn takes, those behind the last one."""
        if len(names) > _MOST_FILES:
            at = bisect.bisect_right(names, self._last)
            names = (names[at:] + names[:at])[:_MOST_FILES]
            self._last = names[-1]
        return names

    def _is_ready(self, name: str, now_ns: int, *, is_busy: bool) -> bool:
        """Whether to take it now; what can never be taken is moved aside at once."""
        path = self.folder / name
        try:
            info = path.lstat()
        except OSError:
            return False
        stamp = _stamp(info)
        if self._unmovable.get(name) == stamp:
            return False
        if reason := self._unfit(name, info):
            if not self._refuse(path, reason):
                self._unmovable[name] = stamp
            return False
        is_free = is_unwritten(path)
        if is_free is None and is_busy:
            is_free = False
        return self._settled.is_complete(name, stamp, now_ns, self._quiet_ns, is_free)

    def _have(self, name: str) -> bool:
        """Have one by this name alone; whether that worked. One that cannot be moved stays."""
        path = self.folder / name
        try:
            info = path.lstat()
            path.rename(self._taken / name)
        except FileNotFoundError:
            return False  # whoever brought it took it away again
        except OSError as exc:
            if exc.errno not in _FIXED:
                raise
            self._unmovable[name] = _stamp(info)
            text = f"{name} cannot be taken: {exc.strerror}; is it protected, or the folder sticky?"
            log.warning("%s", text)
            self._note(last=text)
            return False
        return True

    def _unfit(self, name: str, info: os.stat_result) -> str:
        if not stat.S_ISREG(info.st_mode):
            return "is not a regular file: a link, a pipe or a folder is never followed"
        if info.st_uid not in self._owners:
            return (
                f"belongs to user id {info.st_uid}; only files of root, of the daemon's user and "
                "of inbox.users are taken"
            )
        if len(os.fsencode(name)) > _LONGEST_NAME:
            return f"has a name of more than {_LONGEST_NAME} bytes"
        return ""

    def _take(self, path: Path) -> str:
        """Verify one that only we have by this name; returns why it has to wait, or nothing."""
        name = path.name.removesuffix(AGAIN)
        deliver = self._deliver[Path(name).suffix]
        try:
            # Once more: what lay by that name may have been exchanged before we had it.
            if reason := self._unfit(name, path.lstat()):
                raise BundleError(reason)
            said = deliver(path)
        except (NoPlaceError, ApplyError, ConfigProblemsError, OSError) as exc:
            # What is in the way is the device's, not the file's.
            with contextlib.suppress(OSError):
                path.rename(path.with_name(name))
            return f"{name} has to wait: {exc}"
        except EdgedError as exc:
            self._refuse(path, exc.message)
            return ""
        fault("inbox.delivered")
        path.unlink()
        log.info("%s: %s", name, said)
        self._note(installed=self.tally.installed + 1, last=f"{name}: {said}")
        return ""

    def _refuse(self, path: Path, reason: str) -> bool:
        """Move a file aside, with a file that says why; whether that worked."""
        whole = Path(path.name.removesuffix(AGAIN))
        name = whole.stem[:_LONGEST_NAME] + whole.suffix
        reason = reason.replace(f"{path.parent}/", "")
        log.warning("%s is refused: %s", name, reason)
        self._note(refused=self.tally.refused + 1, last=f"{name} is refused: {reason}")
        aside = self._refused
        try:
            _remove(aside / name)
            path.rename(aside / name)
            (aside / f"{name}.txt").unlink(missing_ok=True)
            with os.fdopen(os.open(aside / f"{name}.txt", _NEW, 0o644), "wb") as file:
                file.write(f"{reason}\n".encode("utf-8", "backslashreplace"))
            self._prune(aside)
        except OSError as exc:
            log.warning("%s could not be moved aside: %s", name, exc.strerror)
            return False
        return True

    def _prune(self, aside: Path) -> None:
        names = [one.name for one in aside.iterdir() if one.name.endswith((BUNDLE, TRUST))]
        names.sort(key=lambda name: (aside / name).lstat().st_ctime_ns)
        for name in names[:-_MOST_REFUSED]:
            _remove(aside / name)
            (aside / f"{name}.txt").unlink(missing_ok=True)

    def _note(self, **fields: int | str) -> None:
        values = {name: getattr(self.tally, name) for name in Tally.__slots__}
        self.tally = Tally(**{**values, **fields})


def _stamp(info: os.stat_result) -> Stamp:
    return info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


def is_unwritten(path: Path) -> bool | None:
    """Whether nobody has a file open for writing; None where the kernel does not tell us.

    It gives a lease for reading only then, and only to the file's owner.
    """
    try:
        fd = os.open(path, _LOOK)
    except OSError:
        return None
    try:
        # Whoever opens it for writing in between would have us sent SIGIO, which ends a process.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return False
    except OSError:
        return None
    else:
        return True
    finally:
        os.close(fd)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
