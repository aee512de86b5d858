"""How long the threads of a process have stood in line for a core.

Source: ``/proc/PID/task/TID/schedstat``, the second number, nanoseconds (the kernel's
Documentation/scheduler/sched-stats.rst). Where the kernel does not say, nobody waited.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_ROOT = Path("/")


def waited_ns(pid: int, root: Path = _ROOT) -> int:
    """All its threads together, and the one that asks, since each began. Never raises.

    Some ten microseconds a thread.
    """
    total = 0
    with contextlib.suppress(OSError, ValueError, IndexError):
        total += _waited_ns(f"{root}/proc/thread-self")
        folder = f"{root}/proc/{pid}/task"
        for thread in os.listdir(folder):  # noqa: PTH208 - names only, no Path for each
            total += _waited_ns(f"{folder}/{thread}")
    return total


def _waited_ns(thread: str) -> int:
    with open(f"{thread}/schedstat", "rb") as file:  # noqa: PTH123 - no Path for each
        return int(file.read(128).split()[1])
