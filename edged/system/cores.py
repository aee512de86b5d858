"""The cores this process may use, and the event loop's stay on one of them.

What a client wrote is in the caches of the core it ran on; a loop that runs there reads it several
times as fast as one that has to fetch it from another core, and neither has to be woken from a
core's sleep. The kernel puts a thread that is woken on an idle core wherever there is one, so
staying takes a mask. That is the loop's own thread's: whatever the thread starts would inherit it,
and whoever counts cores there would find one. So cores are counted here, and threads that the loop
may start begin with ``spread``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Collection

log = logging.getLogger("edged")

_QUIET_S = 0.25
"""Without a request for so long, twice at most, the loop goes wherever the kernel puts it: longer
than a camera takes for two pictures, too short for anything else to be hurt by it."""

_before: frozenset[int] = frozenset()
"""What the loop's thread might use before it stayed anywhere; empty while it does not stay."""
_all: frozenset[int] = frozenset()
"""The same, also after a stay."""


def usable() -> Collection[int]:
    """The cores that this process may use."""
    return _before or os.sched_getaffinity(0)


def spread() -> None:
    """Let the calling thread use all cores; the loop may have started it while it stayed."""
    # Also when the stay is over by now: a mask is inherited when a thread is made, and this runs
    # when it begins.
    if len(_all) > 1 and len(os.sched_getaffinity(0)) == 1:
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, _all)


class Stay:
    """The event loop's, on the core of a client that has it to itself; used from the loop only."""

    def __init__(self) -> None:
        self.core = -1
        """Where the loop stays; -1 for nowhere."""
        self._timer: asyncio.TimerHandle | None = None
        self._is_used = False
        self._is_refused = False

    def at(self, core: int) -> bool:
        """Stay there, until ``leave`` or until nobody has said so for a while.

        Returns:
            Whether it does: not where this process may not run, or may not say where it runs.
        """
        global _before, _all  # noqa: PLW0603 - a mask is a thread's, and there is one loop
        if core != self.core or core < 0:
            if self._is_refused or core not in usable():
                return False
            found = _before or frozenset(os.sched_getaffinity(0))
            try:
                os.sched_setaffinity(0, {core})
            except OSError as exc:
                self._is_refused = True
                log.info("the loop cannot stay on one core: %s", exc.strerror)
                return False
            _before = _all = found
            self.core = core
        self._is_used = True
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_QUIET_S, self._look)
        return True

    def leave(self) -> None:
        """Go wherever the kernel puts it."""
        global _before  # noqa: PLW0603
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.core >= 0:
            self.core = -1
            with contextlib.suppress(OSError):
                os.sched_setaffinity(0, _before)
            _before = frozenset()

    def _look(self) -> None:
        self._timer = None
        if not self._is_used:
            self.leave()
            return
        self._is_used = False
        self._timer = asyncio.get_running_loop().call_later(_QUIET_S, self._look)
