"""The file of the activation log in a state directory: read once, written anew at start, added to.

What its records mean is decided in ``activation.py``. The owner holds the lock of the directory,
and calls one at a time.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import secrets

from edged.faults import fault
from edged.store.activation import History, Record, encode, read_log
from edged.store.bundle import read_small, write_file

log = logging.getLogger("edged.store")

_NAME = "activation.log"
_CAP_BYTES = 64 << 20
"""Rewritten at every start with one line a model; far more than a start ever appends."""
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
_FULL = (errno.ENOSPC, errno.EDQUOT)


class ActivationLog:
    """The log of one state directory; ``history`` is what it says now.

    Args:
        root_fd: the directory, open; stays the caller's.
    """

    def __init__(self, root_fd: int) -> None:
        self.history = History({}, {})
        self._root_fd = root_fd
        self._fd = -1

    def read(self) -> History:
        """What an earlier process left, as far as it can be read; nothing where there is none.

        Raises:
            OSError: the disk does not give it.
        """
        try:
            self.history = read_log(read_small(self._root_fd, _NAME, _CAP_BYTES))
        except FileNotFoundError:
            self.history = History({}, {})
        return self.history

    def rewrite(self, history: History) -> None:
        """Let the log say this and nothing else, whole or not at all.

        On a full disk the log stays, with what is new at its end, where its last block has room for
        that. Where it has none, this start is not counted: what is there serves all the same.

        Raises:
            OSError: the disk does not take it; the log says what it said before.
        """
        temporary = f".{_NAME}-{secrets.token_hex(8)}"
        try:
            write_file(self._root_fd, temporary, iter([b"".join(map(encode, history.records()))]))
            fault("recover.log")
            os.rename(temporary, _NAME, src_dir_fd=self._root_fd, dst_dir_fd=self._root_fd)
            os.fsync(self._root_fd)
        except OSError as exc:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=self._root_fd)
            if exc.errno not in _FULL or not self._is_there():
                raise
            if not self._add(history):
                log.error("no room to count this start for releases that are being tried")
        self.history = history

    def _is_there(self) -> bool:
        try:
            os.stat(_NAME, dir_fd=self._root_fd, follow_symlinks=False)
        except OSError:
            return False
        return True

    def _add(self, history: History) -> bool:
        """Add what the log does not say yet, whole or not at all; whether it says it now."""
        known = self.history.records()
        fresh = b"".join(encode(one) for one in history.records() if one not in known)
        if not fresh:
            return True
        is_whole = False
        with contextlib.suppress(OSError):
            fd = os.open(_NAME, _FLAGS, dir_fd=self._root_fd)
            try:
                is_whole = _write_whole(fd, fresh)
                os.fdatasync(fd)
            finally:
                os.close(fd)
        return is_whole

    def open(self) -> None:
        """Take records from now on, until ``close``; raises OSError."""
        self._fd = os.open(_NAME, _FLAGS | os.O_CREAT, 0o600, dir_fd=self._root_fd)

    def close(self) -> None:
        """Take no more records."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def append(self, record: Record) -> None:
        """Add a record; it is on the disk when this returns.

        Raises:
            OSError: the disk does not take it, or the log is not open (a read-only file system).
        """
        data = encode(record)
        if self._fd < 0:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        if not _write_whole(self._fd, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fault("log.appended")
        os.fdatasync(self._fd)
        last, bad = dict(self.history.last), dict(self.history.bad)
        last[record.model] = record
        bad.pop(record.digest, None)
        self.history = History(last, bad)


def _write_whole(fd: int, data: bytes) -> bool:
    """Add records at the end, whole or not at all; whether it did. Half of one spoils the next."""
    size = os.fstat(fd).st_size
    if size and os.pread(fd, 1, size - 1) != b"\n":
        data = b"\n" + data  # its last line is half a record
    if os.write(fd, data) == len(data):
        return True
    os.ftruncate(fd, size)
    return False
