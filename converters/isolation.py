"""What the throw-away process takes from itself before it opens anything: network, memory, time.

Isolates as far as the kernel lets the user, and says how far. This limits accidents and careless
files; it is no prison: whoever gives ``--trust`` trusts the file with what their account may do.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
PR_SET_NO_NEW_PRIVS = 38
PR_SET_PDEATHSIG = 1
MAX_FILE_BYTES = 8 << 30
"""Largest file the process may write: a 2 GiB model and its tensors fit."""


def isolate(cpu_seconds: int) -> str:
    """Give up what a conversion does not need.

    Args:
        cpu_seconds: processor time after which the kernel ends the process.

    Returns:
        What was reached, for the report.
    """
    limit_memory(_physical_bytes())
    _limit(resource.RLIMIT_CPU, cpu_seconds)
    libc = ctypes.CDLL(None, use_errno=True)
    with contextlib.suppress(AttributeError):
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        # Whoever waits for us may be killed: nobody would end us then.
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    with contextlib.suppress(AttributeError):
        if libc.unshare(CLONE_NEWNET) == 0 or libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0:
            return "own process, no network, limited memory and time"
    return "own process, limited memory and time; the kernel did not allow to cut the network"


def limit_memory(most_bytes: int) -> None:
    """Cap what the process may hold and write; it leaves no dump of itself.

    Args:
        most_bytes: of its own memory; no more than the machine has.
    """
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, MAX_FILE_BYTES)
    _limit(resource.RLIMIT_DATA, min(most_bytes, _physical_bytes()))


def _limit(which: int, value: int) -> None:
    _, hard = resource.getrlimit(which)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(which, (value, value))


def _physical_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
