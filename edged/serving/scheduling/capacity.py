"""How many requests of one release somebody far away may have under way: pure, for who must say so.

Decides by what it answers within a second, so that neither the way there and back nor a run leaves
it idle; more would only wait.
"""

from __future__ import annotations

from math import ceil

_AHEAD_NS = 1_000_000_000
_ROUNDS = 2
"""While a batch runs, the next one must be there."""


def places_of(rows: int, run_ns: int, queue_rows: int) -> int:
    """Requests of one row.

    Args:
        rows: that run at once, of all instances.
        run_ns: how long that takes as things are, nanoseconds; 0 when unknown.
        queue_rows: that may wait.

    Returns:
        At least one; 0 when nobody knows.
    """
    if run_ns <= 0:
        return 0
    return min(rows * max(_ROUNDS, ceil(_AHEAD_NS / run_ns)), rows + queue_rows)
