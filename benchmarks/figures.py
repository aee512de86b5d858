"""Numbers out of numbers: medians, percentiles and ratios of interleaved rounds. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence


def median(values: Sequence[float]) -> float:
    """The middle one, or the mean of the two in the middle."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of all values do not exceed (nearest rank)."""
    if not values:
        raise ValueError("no values")
    if not 0 < share <= 1:
        raise ValueError(f"share {share}: expected more than 0, at most 1")
    return sorted(values)[math.ceil(share * len(values)) - 1]


def paired_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median of the ratios of rounds.

    Each round measured both sides one right after the other, so that what else the machine did in
    it is in both; a ratio of two medians could pair a quiet moment with a busy one.
    """
    if len(above) != len(below):
        raise ValueError(f"{len(above)} rounds of one side and {len(below)} of the other")
    return median([a / b for a, b in zip(above, below, strict=True)])


def within(trace: Sequence[tuple[int, int]], start_ns: int, end_ns: int) -> list[int]:
    """Latencies of the requests of a trace that were under way at some time of a window.

    Args:
        trace: pairs of start and latency, nanoseconds.
        start_ns: of the window, on the same clock.
        end_ns: likewise.
    """
    return [taken for since, taken in trace if since < end_ns and since + taken > start_ns]
