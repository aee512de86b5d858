"""Memory of this machine and of one process: how much there is to have, and who has how much.

Every function takes the root of the file system, so that tests read a packed fake tree. Unknown is
None. Source: proc(5); Documentation/admin-guide/cgroup-v2.rst; malloc_trim(3).
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import NamedTuple

from edged.device.cpu import read_cpu
from edged.device.sysfs import read_int, read_text

_ROOT = Path("/")
_CLEAR_PEAK = "5"


class Taken(NamedTuple):
    """What a process has, bytes.

    Args:
        private: memory that only it has, and that comes back when it lets go: heap, mapped anew.
        peak: the most that was resident since the last ``forget_peak``, files that are mapped
            included.
        files: pages of mapped files that are resident: programs and libraries.
    """

    private: int
    peak: int
    files: int


def taken(pid: int | None = None, root: Path = _ROOT) -> Taken | None:
    """What a process has now; None where the kernel does not say.

    Args:
        pid: which one; None for this one.
        root: of the file system.
    """
    text = read_text(root / "proc" / (str(pid) if pid is not None else "self") / "status")
    fields = {
        name: int(words[0]) * 1024
        for name, _, value in (line.partition(":") for line in (text or "").splitlines())
        if len(words := value.split()) == 2 and words[1] == "kB" and words[0].isdigit()
    }
    try:
        return Taken(fields["RssAnon"], fields["VmHWM"], fields["RssFile"])
    except KeyError:
        return None


def forget_peak(root: Path = _ROOT) -> None:
    """Let the peak of this process begin anew, where the kernel allows it."""
    with contextlib.suppress(OSError):
        (root / "proc/self/clear_refs").write_text(_CLEAR_PEAK, encoding="ascii")


def available_bytes(root: Path = _ROOT) -> int | None:
    """What can be had without swapping, within the limits of our control groups; None if unknown.

    A container or a unit with ``MemoryMax=`` has less than the machine.
    """
    found = [room for room in (read_cpu(root).memory_available_bytes, *_group_rooms(root))
             if room is not None]  # fmt: skip
    return min(found) if found else None


def _group_rooms(root: Path) -> list[int]:
    """What each control group above us leaves; version 2 only, others count as no limit."""
    text = read_text(root / "proc/self/cgroup") or ""
    own = next((line[3:] for line in text.splitlines() if line.startswith("0::/")), None)
    if own is None or ".." in own.split("/"):
        return []
    top = root / "sys/fs/cgroup"
    group = top / own.lstrip("/")
    rooms = []
    while True:
        used = read_int(group / "memory.current")
        for name in ("memory.max", "memory.high"):
            limit = read_int(group / name)
            if limit is not None and used is not None:
                rooms.append(max(0, limit - used))
        if group == top:
            return rooms
        group = group.parent


def hand_back() -> None:
    """Give the allocator's free pages back to the kernel; some milliseconds for much memory.

    What a large model gave back otherwise stays with the process, which would have it and the next
    model's. Does nothing where the C library has no such call.
    """
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes  # noqa: PLC0415 - the one call that Python has no name for

        ctypes.CDLL(None).malloc_trim(0)
