"""How old something on disk is, on machines whose wall clock may be wrong.

A device without a battery-backed clock boots in 1970 and jumps to today when it reaches a time
server. Within one boot ages come from the clock that counts since the boot; over boots from the
wall clock, where both readings can be true.
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import NamedTuple

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_SANE_NS = 1_704_067_200 * 10**9
"""2024-01-01: a wall clock that says less was never set."""


class Moment(NamedTuple):
    """A point in time.

    Args:
        boot: which boot of the machine, 8 bytes.
        boot_ns: since that boot, suspended time included.
        wall_ns: since 1970, as far as the machine knows.
    """

    boot: bytes
    boot_ns: int
    wall_ns: int


def read_boot() -> bytes:
    """Which boot this is; zeros, hence never the same, where the kernel does not say."""
    try:
        return hashlib.sha256(_BOOT_ID.read_bytes()).digest()[:8]
    except OSError:
        return bytes(8)


_BOOT = read_boot()


def now() -> Moment:
    """The present moment."""
    return Moment(_BOOT, time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.time_ns())


def age_ns(then: Moment, at: Moment) -> int:
    """How long ago ``then`` was; 0 where the clocks cannot tell, so that nothing is dropped."""
    if then.boot == at.boot and then.boot != bytes(8):
        return max(0, at.boot_ns - then.boot_ns)
    if then.wall_ns < _SANE_NS or at.wall_ns < _SANE_NS:
        return 0
    return max(0, at.wall_ns - then.wall_ns)
