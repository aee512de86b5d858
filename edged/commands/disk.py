"""What a person can do about a file or folder that the disk refuses: for the end of a message."""

from __future__ import annotations

import errno

_ROOM = "make room on that disk (df -h, df -i) and try again"
_REMEDIES = {
    errno.EACCES: "run it as root",
    errno.EPERM: "run it as root",
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EROFS: "the disk is mounted read-only: see dmesg for why, then mount -o remount,rw",
    errno.EIO: "the disk fails: see dmesg",
    errno.ENOENT: "the daemon makes it at its first start; is it the right one?",
}


def refused(exc: OSError) -> str:
    """What the disk said, and what to do."""
    said = exc.strerror or str(exc)
    remedy = _REMEDIES.get(exc.errno or 0)
    return said if remedy is None else f"{said}; {remedy}"
