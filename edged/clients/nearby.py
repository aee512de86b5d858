"""A thread that stays on its core while it waits for an answer to what it wrote into memory.

What it wrote is in the caches of that core, and the daemon, which is told, comes there for it
(docs/protocol.md, NEAR). The thread itself has to wait there, too: woken elsewhere, it would write
the next picture there. Its mask is changed for the time of the wait alone.

Whether that is worth it is learnt here, from whole requests: where two cores share their caches a
run takes as long on either, and what is won is that neither side has to wake the other's core,
which only the one who waits can see.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Callable
from collections.abc import Set as AbstractSet

_SHORT_NS = 1_000_000
"""A run that takes longer gains little; and whoever waits longer may find its core taken."""
_TWICE = 2
"""So many requests in a row have to come from a core before the daemon is told of it."""
NOWHERE = -1
"""What the daemon is told when it is to go wherever the kernel puts it."""


def _find() -> Callable[[], int] | None:
    with contextlib.suppress(OSError, AttributeError):
        found: Callable[[], int] = ctypes.CDLL(None).sched_getcpu
        return found
    return None


_core_now = _find()


class Worth:
    """Whether it is worth it: learnt from how long requests take here and there. Pure."""

    def __init__(self) -> None:
        self.is_wanted = False
        """Whether the next request should be near."""
        self._requests = 0
        self._apart: list[int] = []
        self._near: list[int] = []

    def took(self, request_ns: int, *, is_near: bool) -> None:
        """Note a request, from before it was sent until it was answered."""
        self._requests += 1
        if self._requests > _AGAIN:
            self._requests, self._apart, self._near = 0, [], []
        times = self._near if is_near else self._apart
        if len(times) < _SAMPLE:
            times.append(request_ns)
            self.is_wanted = self._decide()

    def _decide(self) -> bool:
        apart, near = self._apart, self._near
        if len(apart) < _SAMPLE or len(near) < _SAMPLE:
            return len(apart) == _SAMPLE
        return sorted(near)[_SAMPLE // 2] * _WON <= sorted(apart)[_SAMPLE // 2] * (_WON - 1)


_SAMPLE = 16
"""Requests on each side: their medians are compared."""
_WON = 16
"""At least one in so many parts of a request's time has to be won."""
_AGAIN = 2048
"""After so many requests it is asked again: what else the machine does has changed."""


class Nearby:
    """Of one connection; used by one thread at a time."""

    def __init__(self) -> None:
        self._is_able = _core_now is not None
        self._worth = Worth()
        self._core = self._told = NOWHERE
        self._times = 0

    def choices(self) -> AbstractSet[int] | None:
        """Where the calling thread may run, for ``go``; None when it is to stay nowhere.

        Asked before ``stay``: what a signal raises may come as soon as the mask is changed.
        """
        if not self._is_able or not self._worth.is_wanted:
            return None
        try:
            cores = os.sched_getaffinity(0)
        except OSError:
            self._is_able = False  # this process may not
            return None
        return cores if len(cores) > 1 else None

    def stay(self) -> None:
        """Keep the calling thread where it is, until ``go``."""
        assert _core_now is not None
        core = _core_now()
        try:
            os.sched_setaffinity(0, {core})
        except OSError:
            self._is_able = False
        else:
            self._note(core)

    def _note(self, core: int) -> None:
        self._times = self._times + 1 if core == self._core else 1
        self._core = core

    def look(self) -> None:
        """Note where the calling thread is, which stays nowhere: it does other things meanwhile.

        Threads that those begin would stay on that core for good.
        """
        if _core_now is not None and self._worth.is_wanted:
            self._note(_core_now())

    def go(self, cores: AbstractSet[int]) -> None:
        """Let it go on wherever it may."""
        # What may be used has changed meanwhile, to none of these: the kernel has seen to it.
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, cores)

    def answered(self, request_ns: int, run_ns: int) -> int | None:
        """Note how long a request took, and its run.

        Returns:
            What the daemon should be told: a core or ``NOWHERE``; None when it knows.
        """
        told, worth = self._told, self._worth
        if run_ns < _SHORT_NS:
            worth.took(request_ns, is_near=told >= 0 and told == self._core)
        elif worth.is_wanted:
            self._worth = worth = Worth()
        if not worth.is_wanted:
            self._told, self._times = NOWHERE, 0
            return None if told == NOWHERE else NOWHERE
        if self._times < _TWICE or self._core == told:
            return None
        self._told = self._core
        return self._core
