"""A thread that stays on its core while it waits for an answer to what it wrote into memory.

What it wrote is in the caches of that core, and the daemon, which is told, may come there for it
(docs/protocol.md, NEAR). The thread itself has to wait there, too: woken elsewhere, it would write
the next picture there. Its mask is changed for the time of the wait alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Callable
from collections.abc import Set as AbstractSet

_SHORT_NS = 1_000_000
"""A run that takes longer gains little; and whoever waits longer may find its core taken."""
_AGAIN = 2
"""So many requests in a row have to come from a core before the daemon is told of it."""


def _find() -> Callable[[], int] | None:
    with contextlib.suppress(OSError, AttributeError):
        found: Callable[[], int] = ctypes.CDLL(None).sched_getcpu
        return found
    return None


_core_now = _find()


class Nearby:
    """Of one connection; used by one thread at a time."""

    def __init__(self) -> None:
        self._is_able = _core_now is not None
        self._run_ns = _SHORT_NS
        self._core = self._told = -1
        self._times = 0

    def stay(self) -> AbstractSet[int] | None:
        """Keep the calling thread where it is.

        Returns:
            What to give to ``go``; None when it stays nowhere.
        """
        if not self._is_able or self._run_ns >= _SHORT_NS:
            return None
        try:
            cores = os.sched_getaffinity(0)
            if len(cores) < 2:
                return None
            assert _core_now is not None
            core = _core_now()
            os.sched_setaffinity(0, {core})
        except OSError:
            self._is_able = False  # this process may not
            return None
        self._note(core)
        return cores

    def _note(self, core: int) -> None:
        self._times = self._times + 1 if core == self._core else 1
        self._core = core

    def look(self) -> None:
        """Note where the calling thread is, which stays nowhere: it does other things meanwhile.

        Threads that those begin would stay on that core for good.
        """
        if _core_now is not None and self._run_ns < _SHORT_NS:
            self._note(_core_now())

    def go(self, cores: AbstractSet[int]) -> None:
        """Let it go on wherever it may."""
        # What may be used has changed meanwhile, to none of these: the kernel has seen to it.
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, cores)

    def answered(self, run_ns: int) -> int | None:
        """Note how long a run took; returns the core that the daemon should be told, if any."""
        self._run_ns = run_ns
        if self._times < _AGAIN or self._core == self._told:
            return None
        self._told = self._core
        return self._core
