"""Which waiting requests run together: pure, with the time passed in.

Work-conserving: a batch is what waits now, and it waits for company only when the operator set
``max_queue_delay``. Nothing here reads a clock, runs a model or answers anybody.
Source: Triton's dynamic batcher (``max_queue_delay_microseconds`` in model_config.proto).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from edged.messages import InferRequest, OnResponse, OrderedRequest
from edged.tensors import TensorSpec

Layout = tuple[tuple[int, ...], ...]

_PARALLEL_CAP = 4
"""Each run under way holds the memory of its own intermediate values."""


class Queue(Protocol):
    """What a request waits in, as far as the request needs to know."""

    def withdraw(self, item: Waiting) -> bool:
        """Take an item out and answer it with CancelledError; False when it no longer waits."""
        ...


@dataclass(slots=True, eq=False)
class Waiting:
    """One request in a queue.

    Args:
        request: as submitted; its tensors fit the release's signature.
        on_response: the caller's callback.
        rows: length of the batch axis; 1 for models without one.
        layout: shapes without the batch axis; only equal layouts can be stacked.
        size_bytes: bytes of its tensors.
        enqueued_ns: monotonic clock, nanoseconds.
        generation: the configuration generation it was accepted under.
        queue: where it waits; None in tests of deciding alone.
    """

    request: InferRequest
    on_response: OnResponse
    rows: int
    layout: Layout
    size_bytes: int
    enqueued_ns: int
    generation: int
    queue: Queue | None = None

    def cancel(self) -> bool:
        """Withdraw it, if it still waits; see ``messages.Ticket``."""
        return self.queue is not None and self.queue.withdraw(self)


class RunTimes(Protocol):
    """How long a run takes, as far as one knows; 0 for what is not known."""

    def likely_ns(self, rows: int) -> int:
        """Rather too long than too short."""
        ...

    def least_ns(self, rows: int) -> int:
        """Rather too short than too long."""
        ...


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """What one batch may be.

    Args:
        max_rows: most rows; 1 when rows cannot be stacked.
        max_delay_ns: how long the oldest request may wait for company, nanoseconds.
        times: what runs take; None when deadlines are judged by the clock alone.
    """

    max_rows: int
    max_delay_ns: int = 0
    times: RunTimes | None = None


class Batch(NamedTuple):
    """What runs next.

    Args:
        items: in queue order, all of one layout; empty when everything that waited had expired.
        expired: whose deadline has passed, or will have before a run of theirs could end.
        rows: sum over items.
    """

    items: tuple[Waiting, ...]
    expired: tuple[Waiting, ...]
    rows: int


class WaitUntil(NamedTuple):
    """Ask again at this monotonic time; ``expired`` as in Batch."""

    at_ns: int
    expired: tuple[Waiting, ...] = ()


_NOBODY: frozenset[str] = frozenset()
_WORTH_IT = 1.1
"""More rows must bring this much more a second: each also waits for the others' run."""
_RISING = 1.25


def paying_rows(costs: Sequence[tuple[int, int]], max_rows: int) -> int:
    """How many rows a batch should have: the fewest that come near the most rows a second.

    On a CPU a small network runs 16 rows in hardly more time than one, and a large one not a bit
    faster than one by one: then a batch only makes the first wait for the last.

    Args:
        costs: pairs of rows and nanoseconds as measured, rows ascending; empty when nothing is
            known, then batches pay.
        max_rows: what the operator allows, or 1 when rows cannot be stacked.
    """
    known = [(rows, rows / max(run_ns, 1)) for rows, run_ns in costs if rows <= max_rows]
    if not known:
        return max_rows
    rate = max(rate for _, rate in known)
    chosen = next(rows for rows, rate_of in known if rate_of * _WORTH_IT >= rate)
    last = known[-1]
    if chosen == last[0] and len(known) > 1 and last[1] >= known[-2][1] * _RISING:
        return max_rows  # still rising where the measuring ended
    return chosen


def parallel_runs(configured: int, costs: Sequence[tuple[int, int]], cores: int) -> int:
    """How many runs of one model may be under way at once.

    Args:
        configured: what the operator says; 0 leaves it to us.
        costs: as for ``paying_rows``; empty when nothing is known.
        cores: that this process may use.

    Returns:
        As configured; else one a core, for cores that share a run wait for each other: a second
        full batch brought a convolutional network 12 % on two cores. One while nothing is known.
    """
    if configured:
        return configured
    return min(cores, _PARALLEL_CAP) if costs else 1


def layout_of(specs: Sequence[TensorSpec], request: InferRequest) -> Layout:
    """The shapes that must be equal for requests to be stacked, in the order of the signature."""
    return tuple(request.inputs[spec.name].shape[1:] for spec in specs)


def deadlines_of(items: Sequence[Waiting]) -> list[int]:
    """When those of them must hear that their time is over who said so, monotonic nanoseconds."""
    return [i.request.deadline_ns for i in items if i.request.deadline_ns is not None]


def form_batch(queue: Sequence[Waiting], now_ns: int, limits: BatchLimits) -> Batch | WaitUntil:
    """Choose the next batch, or say when to ask again where waiting may fill it.

    The first live request leads; requests of the same layout join it in order while rows fit, and
    while the longer run makes nobody in it miss a deadline. A request larger than ``max_rows`` runs
    alone. One that no run could answer in time is given up for those that can be.

    Args:
        queue: what waits, in the order it should run in; not empty.
        now_ns: monotonic clock, nanoseconds.
        limits: of the release.
    """
    expired: list[Waiting] = []
    hopeless: list[Waiting] = []
    items: list[Waiting] = []
    layout: Layout = ()
    rows, max_rows, times = 0, limits.max_rows, limits.times
    first_ns, roomy_ns = None, 0
    passed = _NOBODY
    for item in queue:
        deadline_ns = item.request.deadline_ns
        if deadline_ns is not None:
            if deadline_ns <= now_ns:
                expired.append(item)
                continue
            if times is not None:
                if not roomy_ns:
                    roomy_ns = now_ns + times.likely_ns(max_rows)
                if deadline_ns >= roomy_ns:
                    deadline_ns = None  # no batch can make it late
                elif now_ns + times.least_ns(item.rows) > deadline_ns:
                    hopeless.append(item)
                    continue
        if not items:
            rows, layout, first_ns = item.rows, item.layout, deadline_ns
        elif (rows + item.rows <= max_rows and item.layout == layout
                and item.request.origin not in passed):  # fmt: skip
            if first_ns is not None or deadline_ns is not None:
                soonest_ns = _sooner(first_ns, deadline_ns)
                if times and now_ns + times.likely_ns(rows + item.rows) > soonest_ns:
                    passed = _after(passed, item)
                    continue
                first_ns = soonest_ns
            rows += item.rows
        else:
            passed = _after(passed, item)
            continue
        items.append(item)
        if rows >= max_rows:
            break  # the others have later deadlines: the timer looks after them
    if hopeless and not items:
        # Nobody loses by it, and only a run shows whether runs still take so long.
        return Batch((hopeless[0],), tuple(expired), hopeless[0].rows)
    expired += hopeless
    if items and limits.max_delay_ns and rows < max_rows:
        until_ns = _latest_ns(items, limits)
        if now_ns < until_ns:
            return WaitUntil(until_ns, tuple(expired))
    return Batch(tuple(items), tuple(expired), rows)


def _after(passed: frozenset[str], item: Waiting) -> frozenset[str]:
    """Whom later ones must not overtake when others run before one: its origin keeps its order."""
    request = item.request
    return passed | {request.origin} if type(request) is OrderedRequest else passed


def _sooner(one_ns: int | None, other_ns: int | None) -> int:
    """The earlier of two deadlines, of which there is at least one."""
    return min(ns for ns in (one_ns, other_ns) if ns is not None)


def _latest_ns(items: Sequence[Waiting], limits: BatchLimits) -> int:
    """Until when a batch may wait for company; that must never make a member miss its deadline."""
    run_ns = limits.times.likely_ns(limits.max_rows) if limits.times is not None else 0
    reserve_ns = max(limits.max_delay_ns, run_ns)
    oldest_ns = min(item.enqueued_ns for item in items)
    latest = [deadline_ns - reserve_ns for deadline_ns in deadlines_of(items)]
    return min([oldest_ns + limits.max_delay_ns, *latest])
