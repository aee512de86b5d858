"""The cores on which runs are under way: two on one of them, while another is free, wait in turn.

The kernel puts a thread that wakes where it ran last or where it was woken, and a core that falls
idle for less than half a millisecond at a time, as the event loop's does in a flood, takes over
nobody from another: two runs share a core for milliseconds beside one that idles. So a thread that
begins a run looks where the others began theirs, and goes elsewhere if it must. From then on the
kernel may move it as ever.
Source: sched_setaffinity(2); kernel/sched/fair.c, ``sched_balance_newidle`` and ``avg_idle``.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Callable

from edged.system.cores import usable

_NOWHERE = -1


def _find() -> Callable[[], int] | None:
    with contextlib.suppress(OSError, AttributeError):
        # Keeps the interpreter's lock: it takes less than giving that up would.
        found: Callable[[], int] = ctypes.PyDLL(None).sched_getcpu
        return found
    return None


_core_now = _find()


class Places:
    """Where the runs of a process began; used from their threads."""

    def __init__(self) -> None:
        self._taken: list[int] = []

    def take(self) -> int:
        """Say that a run begins on this thread; returns what ``give`` wants to hear at its end."""
        if _core_now is None:
            return _NOWHERE
        core, taken = _core_now(), self._taken
        if core < 0:  # a sandbox may keep it back
            return _NOWHERE
        if core in taken:
            core = self._elsewhere(core)
        taken.append(core)
        return core

    def give(self, place: int) -> None:
        """Say that it has ended."""
        if place != _NOWHERE:
            self._taken.remove(place)

    def _elsewhere(self, core: int) -> int:
        cores = usable()
        for free in cores:
            if free not in self._taken:
                with contextlib.suppress(OSError):  # a sandbox may forbid it
                    os.sched_setaffinity(0, {free})
                    os.sched_setaffinity(0, cores)
                    return free
                break
        return core


places = Places()
