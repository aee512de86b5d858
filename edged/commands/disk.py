"""Files that a person names, and what to do where the disk refuses one: for ends of messages."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from edged.errors import InvalidRequestError, NotFoundError

_ROOM = "make room on that disk (df -h, df -i) and try again"
_REMEDIES = {
    errno.EACCES: "run it as root",
    errno.EPERM: "run it as root",
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EROFS: "the disk is mounted read-only: see dmesg for why, then mount -o remount,rw",
    errno.EIO: "the disk fails: see dmesg",
}


_ABSENT = "the daemon makes it at its first start; is it the right one?"


def refused(exc: OSError, *, is_state: bool = True) -> str:
    """What the disk said, of the state directory or something else, and what to do."""
    said = exc.strerror or str(exc)
    is_absent = is_state and exc.errno == errno.ENOENT
    remedy = _ABSENT if is_absent else _REMEDIES.get(exc.errno or 0)
    return said if remedy is None else f"{said}; {remedy}"


def check_given(file: Path, what: str) -> None:
    """Say at once of a file of the command line that it is none.

    Raises:
        NotFoundError: it is not there.
        InvalidRequestError: it is a folder.
    """
    if os.path.isdir(file):  # noqa: PTH112 - is_dir raises where we may not look
        raise InvalidRequestError(f"{file} is a folder; name {what}")
    if not os.path.lexists(file):
        raise NotFoundError(f"{file}: there is no such file; name {what}")
