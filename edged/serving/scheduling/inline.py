"""How many rows of a fast model may run on the event loop itself: learnt from what runs take.

Pure: told how long runs took, asked how many rows may run.
"""

from __future__ import annotations

INLINE_ROWS = 64
"""The measured time is that of one row; a request of very many rows would hold up the loop."""
_BUDGET_NS = 500_000
"""The longest that a run should hold up the loop."""
_HALF_NS = _BUDGET_NS // 2
_SLOW_RUNS = 4
"""So many runs over the budget in a row halve what runs on the loop. One alone says little: a run
that lost the interpreter lock to another thread gets it back after up to 5 ms."""


class InlineRows:
    """The bound of one release."""

    def __init__(self) -> None:
        self.rows = INLINE_ROWS
        self.last_ns = 0
        """Of the last run that was noted, on the loop or not."""
        self._slow_runs = 0

    def learn(self, run_ns: int, rows: int) -> None:
        """Note a run."""
        self.last_ns = run_ns
        if run_ns < _HALF_NS and rows <= self.rows and not self._slow_runs:
            return
        if run_ns > _BUDGET_NS:
            self._slow_runs += 1
            if self._slow_runs >= _SLOW_RUNS:
                self._slow_runs = 0
                self.rows = max(1, min(self.rows, rows // 2))
            return
        self._slow_runs = 0
        if run_ns < _HALF_NS:
            # Also learnt from a run on the thread: so what was only a busy moment comes back.
            self.rows = max(self.rows, min(INLINE_ROWS, rows))
