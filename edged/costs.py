"""What runs of a session cost by their rows, measured on this device and this machine.

A busy machine makes runs look slow, nothing makes them look fast; so what is found has to hold
though something else runs meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from edged.errors import EdgedError
from edged.rows import Axes, repeat_row
from edged.runtimes.base import Session
from edged.tensors import Array

Costs = tuple[tuple[int, int], ...]
"""Pairs of rows and nanoseconds of a run, rows ascending; measured on this device."""

_MEASURE_RUNS = 7
_MEASURE_CAP_NS = 200_000_000
"""Enough runs for a median of a fast model; a slow one shows itself in the first. The cap is for
all sizes of a batch together: a start must not wait long for what only a full queue will use."""
_AGAIN_ROUNDS, _AGAIN_CAP_NS = 3, 100_000_000
"""Then all sizes in turns: what disturbed one of them would else decide between them."""
_MEASURE_ROWS = (1, 2, 4, 8, 16, 32)
_MEASURE_BYTES = 16 << 20
"""Inputs of a batch that is made only to be measured; 32 camera frames would take a gigabyte."""
_NO_GAIN = 1.1
"""Where twice the rows bring less than a tenth more rows a second, twice as many again will not."""
_LOOK_RUNS, _LOOK_CAP_NS = 3, 20_000_000
_FASTER = 1.5
"""A busy machine makes runs look slow, nothing makes them look fast: what was measured before is
believed unless a short look finds one row so much faster."""


def costs_of(
    session: Session, sample: Mapping[str, Array], known: Costs | None, axes: Axes | None
) -> Costs:
    """What is known, if it still holds, or else what is measured now."""
    if known is not None:
        if not known:
            return known
        until_ns = time.monotonic_ns() + _LOOK_CAP_NS
        run_ns, _ = _median_run_ns(session, sample, until_ns, _LOOK_RUNS)
        if run_ns * _FASTER >= known[0][1]:
            return known
    costs = _measure(session, sample, axes)
    # The machine may have become busy after the look: then the old figure is still the better one.
    return known if known and known[0][1] < costs[0][1] else costs


def _measure(session: Session, sample: Mapping[str, Array], axes: Axes | None) -> Costs:
    """Measure one row, then twice as many as long as that pays and the time allows."""
    until_ns = time.monotonic_ns() + _MEASURE_CAP_NS
    costs: list[tuple[int, int]] = []
    idle_steps = 0
    row_bytes = sum(array.nbytes for array in sample.values())
    for rows in _MEASURE_ROWS if axes is not None else (1,):
        if rows > 1 and rows * row_bytes > _MEASURE_BYTES:
            break
        batch = sample if rows == 1 or axes is None else repeat_row(sample, axes, rows)
        try:
            run_ns, is_over = _median_run_ns(session, batch, until_ns)
        except EdgedError:
            if rows == 1:
                raise
            # It promised that rows may share a run, and does not take so many: they go alone.
            return tuple(costs[:1])
        costs.append((rows, run_ns))
        if len(costs) > 1:
            gain = rows * costs[-2][1] / (costs[-2][0] * max(run_ns, 1))
            # One step without a gain may be noise; two are a model that batching does nothing for.
            idle_steps = idle_steps + 1 if gain < _NO_GAIN else 0
        if is_over or idle_steps == 2:
            break
    if axes is None or len(costs) == 1:
        return tuple(costs)
    return _again(session, sample, axes, costs)


def _again(
    session: Session, sample: Mapping[str, Array], axes: Axes, costs: Sequence[tuple[int, int]]
) -> Costs:
    """What sizes cost that were measured one after the other, looked at side by side.

    The fastest counts, for nothing makes a run look fast.
    """
    until_ns = time.monotonic_ns() + _AGAIN_CAP_NS
    fastest = dict(costs)
    for _ in range(_AGAIN_ROUNDS):
        for rows, _ in costs:
            batch = sample if rows == 1 else repeat_row(sample, axes, rows)
            before_ns = time.monotonic_ns()
            session.run(batch)
            after_ns = time.monotonic_ns()
            fastest[rows] = min(fastest[rows], after_ns - before_ns)
            if after_ns > until_ns:
                return tuple(fastest.items())
    return tuple(fastest.items())


def _median_run_ns(
    session: Session, batch: Mapping[str, Array], until_ns: int, runs: int = _MEASURE_RUNS
) -> tuple[int, bool]:
    """The median of so many runs, or of fewer; and whether the time was over before that."""
    times: list[int] = []
    while len(times) < runs:
        before_ns = time.monotonic_ns()
        session.run(batch)
        after_ns = time.monotonic_ns()
        times.append(after_ns - before_ns)
        if after_ns > until_ns:
            break
    return sorted(times)[len(times) // 2], len(times) < runs
