"""Memory of this machine and of one process: how much there is to have, and who has how much.

Every function takes the root of the file system, so that tests read a packed fake tree. Unknown is
None. Source: proc(5); malloc_trim(3); Documentation/admin-guide: cgroup-v2, cgroup-v1/memory.
"""

from __future__ import annotations

import contextlib
import os
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


def half_of_memory() -> int:
    """A cap for whoever names none: what is left keeps the device itself alive, bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def available_bytes(root: Path = _ROOT) -> int | None:
    """What can be had without swapping, within the limits of our control groups; None if unknown.

    A container or a unit with ``MemoryMax=`` has less than the machine.
    """
    found = [room for room in (read_cpu(root).memory_available_bytes, *_group_rooms(root))
             if room is not None]  # fmt: skip
    return min(found) if found else None


class _Kind(NamedTuple):
    """What a version of control groups calls things."""

    top: str
    limits: tuple[str, ...]
    used: str
    idle: str


_VERSIONS = {
    "": _Kind("", ("memory.max", "memory.high"), "memory.current", "inactive_file"),
    "memory": _Kind(
        "memory", ("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file"
    ),
}
"""By what stands between the colons of proc/self/cgroup; version 1 is what JetPack 4 and 5 have."""


def _group_rooms(root: Path) -> list[int]:
    """What each control group above us leaves."""
    rooms = []
    for line in (read_text(root / "proc/self/cgroup") or "").splitlines():
        controllers, _, own = line.partition(":")[2].partition(":")
        for name, kind in _VERSIONS.items():
            if name in controllers.split(",") and own.startswith("/") and ".." not in own:
                rooms += _rooms_above(root / "sys/fs/cgroup" / kind.top, own, kind)
    return rooms


def _rooms_above(top: Path, own: str, kind: _Kind) -> list[int]:
    # Inside a container the name may be the host's, and what counts is at the top then.
    rooms, group = [], top / own.lstrip("/")
    while True:
        if (used := read_int(group / kind.used)) is not None:
            used -= _idle_files(group, kind.idle)
            limits = [read_int(group / name) for name in kind.limits]
            rooms += [max(0, limit - used) for limit in limits if limit is not None]
        if group == top:
            return rooms
        group = group.parent


def _idle_files(group: Path, name: str) -> int:
    """Pages of files that nobody used lately: counted as used, and given up before anything is."""
    for line in (read_text(group / "memory.stat") or "").splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == name and words[1].isdigit():
            return int(words[1])
    return 0


def hand_back() -> None:
    """Give the allocator's free pages back to the kernel; some milliseconds for much memory.

    What a large model gave back otherwise stays with the process, which would have it and the next
    model's. Does nothing where the C library has no such call.
    """
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes  # noqa: PLC0415 - the one call that Python has no name for

        ctypes.CDLL(None).malloc_trim(0)
