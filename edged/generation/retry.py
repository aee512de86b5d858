"""When a refused configuration is tried again: when the device, not the file, was at fault.

Decides from the report's words alone; the daemon holds the timer.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable

from edged.generation.reload_tally import Report

_PASSING = (
    *(
        os.strerror(code)
        for code in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT)
    ),
    "make room",  # said before the disk is full: a bundle needs more than is free
)
"""What the kernel says when descriptors, memory or room ran out: nobody saves a file to mend that,
so no event would come."""
_FIRST_S, _MOST_S = 1.0, 60.0
"""Each try reads the bundles again; a disk that stays full must not keep the device busy."""


def is_passing(problems: Iterable[str]) -> bool:
    """Whether the daemon tries again by itself what these problems kept from it."""
    return any(words in line for line in problems for words in _PASSING)


class Retry:
    """Pauses that double while the cause stays."""

    def __init__(self) -> None:
        self._next_s = _FIRST_S

    def after(self, report: Report) -> float | None:
        """Seconds until the next try, or None when only a person can mend it."""
        if report.applied or not is_passing(report.problems):
            self._next_s = _FIRST_S
            return None
        delay_s, self._next_s = self._next_s, min(self._next_s * 2, _MOST_S)
        return delay_s
