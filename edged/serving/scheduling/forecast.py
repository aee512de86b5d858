"""What runs of one release will take, and how long its queue lasts.

Pure: told what was measured when it was loaded and what runs took since, with the time passed in.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from math import exp

_STEP = 8
"""A new run counts an eighth: one that was disturbed changes little, a busy hour is known soon."""
_SLOWEST, _FASTEST = 16.0, 0.25
"""Bounds of that; a machine that slept would else make everything look hopeless."""
_STALE_NS = 1_000_000_000
"""What a queue brought a second says nothing of another one so much later."""
_SLACK, _MOST_SLACK = 1.25, 32.0
"""A queue's end is foreseen by an average, and half of all queues are slower than that. How much
slower depends on who else uses the device, so it is learnt from those who were late."""
_MORE, _LESS, _EVENTS = 1.2, 0.9998, 5
"""What one that was late, and each run, makes of the slack: they balance at one in a thousand. A
queue that was too long makes all in it late, for one reason: at most five of them count."""
_FORGET_NS = 60_000_000_000
"""The slack falls by itself to a third in such a time, for who lets nobody in learns nothing."""


class Forecast:
    """Of one release.

    Args:
        costs: pairs of rows and nanoseconds of a run, rows ascending; empty when nothing is known.
        is_row_wise: whether more rows take more time; a call takes what it takes where not.
    """

    __slots__ = (
        "_batch_rows",
        "_costs",
        "_gap_ns",
        "_is_row_wise",
        "_one_ns",
        "_pace",
        "_runs",
        "_warned_ns",
        "_warnings",
        "last_ns",
        "slack",
        "slow_gap_ns",
        "slow_row_ns",
    )

    def __init__(self, costs: Sequence[tuple[int, int]] = (), *, is_row_wise: bool = True) -> None:
        self._costs = costs
        self._is_row_wise = is_row_wise
        self._pace = 1.0
        self.slack = _SLACK
        self._gap_ns = 0.0
        self._warned_ns = self._warnings = 0
        self.last_ns = 0
        """When the last run ended."""
        self._one_ns = self._table_ns(1)
        self.slow_row_ns = self.slow_gap_ns = 0.0
        """The most that each row may cost, and all of them besides; for whoever only asks whether
        there is any hurry."""
        self.follow(1, 1)

    def follow(self, batch_rows: int, runs: int) -> None:
        """Count on batches of so many rows, and on so many runs side by side."""
        self._batch_rows, self._runs = batch_rows, runs
        self._hurry(self.last_ns)

    def likely_ns(self, rows: int) -> int:
        """How long a run takes as things are, rather too long than too short; 0 when unknown."""
        return int(self._table_ns(rows) * max(self._pace, 1.0))

    def least_ns(self, rows: int) -> int:
        """How long it takes at the least; 0 when unknown."""
        return int(self._table_ns(rows) * min(self._pace, 1.0))

    def learn(self, run_ns: int, rows: int, now_ns: int, since_ns: int, *, is_queued: bool) -> None:
        """Note a run that ended.

        Args:
            run_ns: how long it took.
            rows: its rows.
            now_ns: monotonic clock, nanoseconds.
            since_ns: since when the first of them waited. From there, or from the end of the run
                before, to now is what they cost with everything that this release has to share.
            is_queued: whether more waits.
        """
        if expected_ns := self._table_ns(rows):
            pace = self._pace + (run_ns / expected_ns - self._pace) / _STEP
            self._pace = min(max(pace, _FASTEST), _SLOWEST)
        gap_ns = float(now_ns - max(self.last_ns, since_ns))
        if not is_queued:
            # As many as may run side by side would have ended in that time.
            gap_ns -= min(run_ns, gap_ns) * (1 - 1 / self._runs)
        if rows > self._batch_rows:
            gap_ns *= self._batch_rows / rows
        elif rows < self._batch_rows:
            # A full one takes longer; who else uses the device does not.
            full_ns = self._table_ns(self._batch_rows) - expected_ns
            gap_ns += full_ns * self._pace / self._runs
        fresh = self.last_ns and now_ns - self.last_ns < _STALE_NS
        self._gap_ns = self._gap_ns + (gap_ns - self._gap_ns) / _STEP if fresh else gap_ns
        if self.slack > _SLACK:
            away_ns = now_ns - self.last_ns
            self.slack = max(_SLACK, self.slack * _LESS * exp(-away_ns / _FORGET_NS))
        self.last_ns = now_ns
        self._hurry(now_ns)

    def missed(self, since_ns: int, now_ns: int) -> None:
        """Note that one was late who was let in at ``since_ns``: it had the time for a run."""
        if since_ns >= self._warned_ns:
            # Let in by what is believed now; who came before the last warning is part of that one.
            self._warned_ns, self._warnings = now_ns, 0
        if self._warnings < _EVENTS:
            self._warnings += 1
            self.slack = min(_MOST_SLACK, self.slack * _MORE)
            self._hurry(now_ns)

    def gap_ns(self, now_ns: int, since_ns: int) -> float:
        """What each full batch that waits adds to the wait of those behind it; 0 when unknown.

        Args:
            now_ns: monotonic clock, nanoseconds.
            since_ns: since when the first one waits; none having ended since says something too.
        """
        if self.last_ns and now_ns - self.last_ns < _STALE_NS:
            silent_ns = now_ns - max(since_ns, self.last_ns)
            gap_ns = self._gap_ns + max(0.0, silent_ns - self._gap_ns) / _STEP
        else:
            gap_ns = self.likely_ns(self._batch_rows)
        return gap_ns * self.slack

    @property
    def full_ns(self) -> float:
        """How long a full batch runs at the most, nanoseconds; 0 when unknown."""
        return self.likely_ns(self._batch_rows) * self.slack

    def _hurry(self, now_ns: int) -> None:
        slow_ns = self._one_ns * max(self._pace, 1.0) * self.slack
        self.slow_gap_ns = self.gap_ns(now_ns, now_ns)
        self.slow_row_ns = max(slow_ns, self.slow_gap_ns / self._batch_rows)

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
