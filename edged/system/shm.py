"""Memory that two processes share, handed over by descriptor and never by name.

Who makes it seals it against shrinking: a mapping of a file that its owner cuts off under our feet
kills whoever reads it (SIGBUS), and no look at its size beforehand can prevent that. So nothing is
mapped here that does not bear that seal, which the kernel holds and nobody can take off again.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import stat
import sys
from functools import cache
from pathlib import Path
from typing import Any

from edged.errors import InvalidRequestError

_OVERCOMMIT = Path("/proc/sys/vm/overcommit_memory")
_NEVER = "2"
_WRITE_SEALS = fcntl.F_SEAL_WRITE | 0x0010  # F_SEAL_FUTURE_WRITE has no name in Python


def make_memory(size: int, name: str = "edged") -> int:
    """New memory of so many bytes, all zero, that can never become shorter.

    Args:
        size: bytes.
        name: shown in ``/proc/PID/maps``; nobody can open it by that name.

    Returns:
        Its descriptor, which the caller closes.

    Raises:
        OSError: there is no memory, or there are no descriptors.
    """
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        # Taken now: memory that is missing later would be missed in the middle of a write.
        os.posix_fallocate(descriptor, 0, size)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def map_memory(descriptor: int, size: int) -> mmap.mmap:
    """Map the first bytes of memory that somebody else made, after a look at what it is.

    Args:
        descriptor: stays the caller's to close.
        size: bytes to map; checked by whoever calls against what it allows.

    Returns:
        The mapping, writable where the other side lets it be. It lives as long as anything refers
        to it or to arrays in it.

    Raises:
        InvalidRequestError: it is no memory, or not sealed, or shorter than that.
    """
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_dev != _device():
            raise InvalidRequestError(
                "the descriptor is no memory of memfd_create (without MFD_HUGETLB); nothing else "
                "is mapped"
            )
        seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
    except OSError as exc:
        raise InvalidRequestError(f"the descriptor is no memory: {exc.strerror}") from exc
    if not seals & fcntl.F_SEAL_SHRINK:
        raise InvalidRequestError(
            "the memory is not sealed against shrinking, and unsealed memory is not mapped: "
            "fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) before it is passed"
        )
    # After the seals: from here on it can only grow.
    have = os.fstat(descriptor).st_size
    if size > have:
        raise InvalidRequestError(f"the memory has {have} bytes, fewer than the {size} named")
    return _map(descriptor, size, seals)


def _map(descriptor: int, size: int, seals: int) -> mmap.mmap:
    shared, private = mmap.MAP_SHARED, mmap.MAP_PRIVATE
    both, reading = mmap.PROT_READ | mmap.PROT_WRITE, mmap.PROT_READ
    # Since Python 3.13 a mapping need not keep a descriptor of its own.
    options: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}
    # What is sealed against writing is mapped as shared memory by newer kernels only.
    ways = [(shared, reading), (private, reading)]
    if not seals & _WRITE_SEALS:
        ways.insert(0, (shared, both))
    problem = OSError()
    for flags, access in ways:
        try:
            return mmap.mmap(descriptor, size, flags, access, **options)
        except OSError as exc:  # opened for reading only, or no room in the address space
            problem = exc
    raise InvalidRequestError(f"the memory cannot be mapped: {problem.strerror}") from problem


def is_writable(memory: mmap.mmap) -> bool:
    """Whether this side may write to it."""
    return not memoryview(memory).readonly


@cache
def why_not() -> str:
    """Why nothing of others may be mapped on this machine; empty where it may."""
    try:
        overcommit = _OVERCOMMIT.read_text().strip()
    except OSError:
        return ""
    if overcommit != _NEVER:
        return ""
    # A client may punch holes into its memory; filling one for us can then fail, by SIGBUS.
    return "this machine never overcommits memory (vm.overcommit_memory is 2)"


@cache
def _device() -> int:
    """The kernel's own place for memory without a name.

    Memory of huge pages is elsewhere, and a page of it may be missing when it is read.
    """
    descriptor = os.memfd_create("edged-probe", os.MFD_CLOEXEC)
    try:
        return os.fstat(descriptor).st_dev
    finally:
        os.close(descriptor)
