"""One timer for the earliest of many times; asked for a later one, it keeps the earlier."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


class Alarm:
    """Rings once; used from the event loop only.

    Args:
        ring: called when the time has come, and looks for itself whether another is needed.
    """

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._timer: asyncio.TimerHandle | None = None
        self._at_ns = 0

    def arm(self, at_ns: int | None) -> None:
        """Ring at this monotonic time at the latest; None changes nothing."""
        if at_ns is None:
            return
        if self._timer is not None:
            if self._at_ns <= at_ns:
                return
            self._timer.cancel()
        self._at_ns = at_ns
        delay = max(0, at_ns - time.monotonic_ns()) / 1e9
        self._timer = asyncio.get_running_loop().call_later(delay, self._on_time)

    def cancel(self) -> None:
        """Do not ring."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_time(self) -> None:
        self._timer = None
        self._ring()
