"""What the kernel says about this process: memory, processor time, descriptors, start.

Reads ``/proc/self``; a figure that it does not give is None, never 0. Source: proc(5).
"""

from __future__ import annotations

import contextlib
import os
import resource
import time
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc/self")
_START_FIELD = 22
"""Of /proc/self/stat: clock ticks between the machine's start and ours."""


@dataclass(frozen=True, slots=True)
class ProcessFigures:
    """One look; sizes in bytes, times in seconds."""

    resident_bytes: int | None
    cpu_s: float
    open_fds: int | None
    max_fds: int
    started_s: float | None


def read_process(proc: Path = _PROC) -> ProcessFigures:
    """Look once; some tens of microseconds."""
    open_fds = None
    with contextlib.suppress(OSError):
        open_fds = len(os.listdir(proc / "fd"))  # noqa: PTH208 - names only, no Path for each
    return ProcessFigures(
        resident_bytes(proc),
        time.process_time(),
        open_fds,
        resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        _started_s(proc),
    )


def resident_bytes(proc: Path = _PROC) -> int | None:
    """Resident memory of this process, or None where the kernel does not say."""
    try:
        pages = int((proc / "statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def _started_s(proc: Path) -> float | None:
    """Since 1970, by the clock as it is set now."""
    try:
        text = (proc / "stat").read_text(encoding="utf-8", errors="replace")
        # The second field is the command in brackets, and may hold anything.
        ticks = int(text.rpartition(")")[2].split()[_START_FIELD - 3])
    except (OSError, ValueError, IndexError):
        return None
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return time.time() - age_s
