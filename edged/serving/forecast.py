"""What runs of one release will take, and how long its queue lasts.

Pure: told what was measured when it was loaded and what runs took since, with the time passed in.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

_STEP = 8
"""A new run counts an eighth: one that was disturbed changes little, a busy hour is known soon."""
_SLOWEST, _FASTEST = 16.0, 0.25
"""Bounds of that; a machine that slept would else make everything look hopeless."""
_STALE_NS = 1_000_000_000
"""What a full queue brought a second says nothing of another one so much later."""
_SLACK, _MOST_SLACK = 1.25, 4.0
"""A queue's end is foreseen by an average, and half of all queues are slower than that. How much
slower depends on who else uses the device, so it is learnt from those who were late."""
_MORE, _LESS = 1.1, 0.9998
"""What one that was late, and each row that was run, makes of the slack: they balance when one in
five hundred is late."""


class Forecast:
    """Of one release.

    Args:
        costs: pairs of rows and nanoseconds of a run, rows ascending; empty when nothing is known.
        is_row_wise: whether more rows take more time; a call takes what it takes where not.
    """

    __slots__ = (
        "_costs",
        "_drained_ns",
        "_drained_rows",
        "_is_row_wise",
        "_last_ns",
        "_one_ns",
        "_pace",
        "_slack",
        "slow_row_ns",
    )

    def __init__(self, costs: Sequence[tuple[int, int]] = (), *, is_row_wise: bool = True) -> None:
        self._costs = costs
        self._is_row_wise = is_row_wise
        self._pace = 1.0
        self._slack = _SLACK
        self._drained_rows = self._drained_ns = 0.0
        self._last_ns = 0
        self._one_ns = self._table_ns(1)
        self.slow_row_ns = self._one_ns * _SLACK
        """The most that a row may cost, alone or in a queue; for whoever only asks whether there is
        any hurry."""

    def likely_ns(self, rows: int) -> int:
        """How long a run takes as things are, rather too long than too short; 0 when unknown."""
        return int(self._table_ns(rows) * max(self._pace, 1.0))

    def least_ns(self, rows: int) -> int:
        """How long it takes at the least; 0 when unknown."""
        return int(self._table_ns(rows) * min(self._pace, 1.0))

    def learn(self, run_ns: int, rows: int, now_ns: int, *, is_queued: bool) -> None:
        """Note a run that ended.

        Args:
            run_ns: how long it took.
            rows: its rows.
            now_ns: monotonic clock, nanoseconds.
            is_queued: whether more waits: then the time to the next end is what rows cost, with
                everything that this release has to share.
        """
        if expected_ns := self._table_ns(rows):
            pace = self._pace + (run_ns / expected_ns - self._pace) / _STEP
            self._pace = min(max(pace, _FASTEST), _SLOWEST)
        if self._last_ns:
            keep = 1 - 1 / _STEP
            self._drained_ns = self._drained_ns * keep + now_ns - self._last_ns
            self._drained_rows = self._drained_rows * keep + rows
        self._last_ns = now_ns if is_queued else 0
        self._slack = max(_SLACK, self._slack * _LESS**rows)
        self._hurry(now_ns)

    def missed(self, count: int, now_ns: int) -> None:
        """Note that so many who were let in were late, though a run would have been in time."""
        self._slack = min(_MOST_SLACK, self._slack * _MORE**count)
        self._hurry(now_ns)

    def row_ns(self, batch_rows: int, now_ns: int) -> float:
        """What each row that waits adds to the wait of those behind it; 0 when unknown."""
        if self._drained_rows and self._last_ns and now_ns - self._last_ns < _STALE_NS:
            return self._drained_ns / self._drained_rows * self._slack
        return self.likely_ns(batch_rows) / batch_rows * self._slack

    def _hurry(self, now_ns: int) -> None:
        slow_ns = self._one_ns * max(self._pace, 1.0) * self._slack
        self.slow_row_ns = max(slow_ns, self.row_ns(1, now_ns))

    def _table_ns(self, rows: int) -> float:
        costs = self._costs
        if not costs:
            return 0
        if not self._is_row_wise:
            return costs[0][1]
        place = bisect_left(costs, (rows, 0))
        if place == len(costs):
            most, run_ns = costs[-1]
            return run_ns * rows / most
        upper, upper_ns = costs[place]
        if place == 0 or upper == rows:
            return upper_ns
        lower, lower_ns = costs[place - 1]
        return lower_ns + (upper_ns - lower_ns) * (rows - lower) / (upper - lower)
