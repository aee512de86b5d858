"""Files of the engine cache's folder: replaced whole, and never swept away while they are written.

The cache throws out what crashes left half written. It cannot tell that from what somebody writes
just now; so both hold the folder's lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterable, Iterator

from edged.engines.seal import own_file
from edged.store.bundle import write_file


@contextlib.contextmanager
def locked(fd: int, *, wait: bool = True) -> Iterator[None]:
    """One writer or sweeper at a time, among processes too; raises BlockingIOError."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    own = os.open(".", flags, dir_fd=fd)  # locks belong to an open file, not to a number
    try:
        fcntl.flock(own, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(own)


def replace_file(fd: int, name: str, parts: Iterable[bytes]) -> None:
    """Let a file have this content, whole or not at all; raises OSError.

    Args:
        fd: of the folder.
        name: in it.
        parts: of the content, one after the other.
    """
    temporary = f".{name}-{secrets.token_hex(8)}"
    with locked(fd):
        write_file(fd, temporary, iter(parts))
        own_file(fd, temporary)
        os.rename(temporary, name, src_dir_fd=fd, dst_dir_fd=fd)
    os.fsync(fd)
