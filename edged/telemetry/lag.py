"""How late the event loop is: one timer a second, and how long after its moment it ran.

Runs only while somebody scrapes, for an idle device should not wake for it.
"""

from __future__ import annotations

import asyncio

from edged.telemetry.exposition import CELLS, Times

_EVERY_S = 1.0


class LoopLag:
    """Samples one loop."""

    def __init__(self, every_s: float = _EVERY_S) -> None:
        self._every_s = every_s
        self._cells = [0] * CELLS
        self._sum_ns = 0
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def run(self, *, wanted: bool) -> None:
        """Start or stop, as wanted; what was sampled is kept."""
        if wanted and self._timer is None:
            self._arm(asyncio.get_running_loop())
        elif not wanted and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def times(self) -> Times | None:
        """The samples; None while nobody takes any."""
        return Times(tuple(self._cells), self._sum_ns) if self._timer is not None else None

    def sampled(self, late_ns: int) -> None:
        """Count one sample."""
        self._sum_ns += late_ns
        self._cells[(late_ns - 1).bit_length()] += 1

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = loop.time() + self._every_s
        self._timer = loop.call_at(self._due, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self.sampled(max(0, int((loop.time() - self._due) * 1e9)))
        self._arm(loop)
