"""Which waiting requests run together: rows of a table."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.messages import InferRequest, OrderedRequest
from edged.serving.scheduling.backlog import due_ns
from edged.serving.scheduling.scheduler import (
    Batch,
    BatchLimits,
    Waiting,
    WaitUntil,
    deadlines_of,
    form_batch,
    layout_of,
    parallel_runs,
    paying_rows,
)
from edged.tensors import TensorSpec

NOW = 10_000


def wait(
    rows: int = 1,
    *,
    layout: tuple = (),
    deadline: int | None = None,
    since: int = NOW,
    of: str = "",
) -> Waiting:
    kind = OrderedRequest if of else InferRequest
    request = kind("m", {}, deadline_ns=deadline, origin=of or "uds")
    return Waiting(request, lambda *_: None, rows, layout, rows * 16, since, 1)


A, B = ((3,),), ((5,),)

# queue, limits, indexes that run, indexes that expired
BATCHES = {
    "one": ([wait()], BatchLimits(8), [0], []),
    "all that fit": ([wait(3), wait(3), wait(2)], BatchLimits(8), [0, 1, 2], []),
    "no more than max_rows": ([wait(3), wait(3), wait(3)], BatchLimits(8), [0, 1], []),
    "a small one fills the gap": ([wait(3), wait(6), wait(4)], BatchLimits(8), [0, 2], []),
    "none fills a gap before its own": (
        [wait(3, of="a"), wait(6, of="a"), wait(4, of="a")],
        BatchLimits(8),
        [0],
        [],
    ),
    "others fill it": (
        [wait(3, of="a"), wait(6, of="a"), wait(of="a"), wait(4, of="b")],
        BatchLimits(8),
        [0, 3],
        [],
    ),
    "full": ([wait(), wait(), wait()], BatchLimits(2), [0, 1], []),
    "rows cannot be stacked": ([wait(), wait()], BatchLimits(1), [0], []),
    "oversize runs alone": ([wait(100), wait()], BatchLimits(8), [0], []),
    "oversize waits its turn": ([wait(), wait(100), wait()], BatchLimits(8), [0, 2], []),
    "one layout": (
        [wait(layout=A), wait(layout=B), wait(layout=A)],
        BatchLimits(8),
        [0, 2],
        [],
    ),
    "none goes before its own of another layout": (
        [wait(layout=A), wait(layout=B, of="a"), wait(layout=A, of="a"), wait(layout=A)],
        BatchLimits(8),
        [0, 3],
        [],
    ),
    "the oldest leads": ([wait(layout=B), wait(layout=A), wait(layout=A)], BatchLimits(8), [0], []),
    "expired": ([wait(deadline=NOW), wait(deadline=NOW + 1)], BatchLimits(8), [1], [0]),
    "expired ones free the rows": (
        [wait(8, deadline=NOW - 1), wait(8)],
        BatchLimits(8),
        [1],
        [0],
    ),
    "expired ones of any layout": (
        [wait(layout=A), wait(layout=B, deadline=1)],
        BatchLimits(8),
        [0],
        [1],
    ),
    "all expired": ([wait(deadline=1), wait(deadline=2)], BatchLimits(8), [], [0, 1]),
    "all expired with a delay": ([wait(deadline=1)], BatchLimits(8, 500), [], [0]),
    "delay over": ([wait(since=NOW - 500)], BatchLimits(8, 500), [0], []),
    "full needs no delay": ([wait(4), wait(4)], BatchLimits(8, 500), [0, 1], []),
    "more than full needs no delay": ([wait(9)], BatchLimits(8, 500), [0], []),
    "a deadline within the delay": ([wait(deadline=NOW + 400)], BatchLimits(8, 500), [0], []),
    "a deadline of any member": (
        [wait(), wait(deadline=NOW + 400)],
        BatchLimits(8, 500),
        [0, 1],
        [],
    ),
}


class Times:
    """A run of one row takes 100, of each further row 10; ``least`` may be below that."""

    def __init__(self, least: float = 1.0) -> None:
        self.least = least

    def likely_ns(self, rows: int) -> int:
        return 90 + 10 * rows

    def least_ns(self, rows: int) -> int:
        return int(self.likely_ns(rows) * self.least)


TIMED = BatchLimits(8, 0, Times())
BATCHES |= {
    "company that costs nobody its deadline": (
        [wait(deadline=NOW + 120), wait(), wait(2), wait(3)],
        TIMED,
        [0, 1],
        [],
    ),
    "the last row that fits is a later one": (
        [wait(deadline=NOW + 120), wait(4), wait(2)],
        TIMED,
        [0, 2],
        [],
    ),
    "one that would be late in this company": (
        [wait(5), wait(deadline=NOW + 120), wait()],
        TIMED,
        [0, 2],
        [],
    ),
    "none goes before its own that would be late": (
        [wait(5), wait(deadline=NOW + 120, of="a"), wait(of="a"), wait()],
        TIMED,
        [0, 3],
        [],
    ),
    "the earlier deadline of two is the one that counts": (
        [wait(deadline=NOW + 120), wait(deadline=NOW + 150), wait(2)],
        TIMED,
        [0, 1],
        [],
    ),
    "just time enough for its run": ([wait(deadline=NOW + 100)], TIMED, [0], []),
    "no time left for any, of which the first is larger": (
        [wait(2, deadline=NOW + 99), wait(deadline=NOW + 98)],
        TIMED,
        [0],
        [],
    ),
    "nobody's time is short": ([wait(4, deadline=NOW + 900), wait(4)], TIMED, [0, 1], []),
    "no time left for its run": (
        [wait(deadline=NOW + 99), wait(deadline=NOW + 500)],
        TIMED,
        [1],
        [0],
    ),
    "no time left for any: one shows what runs take": (
        [wait(deadline=NOW + 99), wait(deadline=NOW + 98)],
        TIMED,
        [0],
        [],
    ),
    "runs may have been faster": (
        [wait(deadline=NOW + 99), wait(deadline=NOW + 500)],
        BatchLimits(8, 0, Times(0.5)),
        [0],
        [],
    ),
}


@pytest.mark.parametrize("name", BATCHES)
def test_batch(name: str):
    queue, limits, runs, expired = BATCHES[name]
    decision = form_batch(queue, NOW, limits)
    assert isinstance(decision, Batch)
    assert decision.items == tuple(queue[i] for i in runs)
    assert decision.expired == tuple(queue[i] for i in expired)
    assert decision.rows == sum(queue[i].rows for i in runs)


@pytest.mark.parametrize(
    ("queue", "until", "expired"),
    [
        ([wait()], NOW + 500, []),
        ([wait(since=NOW - 400), wait()], NOW + 100, []),
        ([wait(deadline=NOW + 900)], NOW + 400, []),
        ([wait(), wait(deadline=NOW + 600)], NOW + 100, []),
        ([wait(deadline=NOW + 10**9)], NOW + 500, []),
        ([wait(), wait(deadline=NOW - 1)], NOW + 500, [1]),
    ],
)
def test_wait(queue: list[Waiting], until: int, expired: list[int]):
    decision = form_batch(queue, NOW, BatchLimits(8, 500))
    assert decision == WaitUntil(until, tuple(queue[i] for i in expired))


def test_waiting_for_company_leaves_time_for_a_full_run():
    limits = BatchLimits(64, 500, Times())
    queue = [wait(deadline=NOW + 1000)]
    assert form_batch(queue, NOW, limits) == WaitUntil(NOW + 1000 - 730, ())


def test_a_long_queue_is_read_no_further_than_the_batch():
    class Asked(list):
        seen = 0

        def __iter__(self):
            for item in super().__iter__():
                self.seen += 1
                yield item

    queue = Asked(wait() for _ in range(1000))
    decision = form_batch(queue, NOW, BatchLimits(4))
    assert isinstance(decision, Batch)
    assert (decision.rows, queue.seen) == (4, 4)


QUEUES = st.lists(
    st.builds(
        wait,
        st.integers(1, 12),
        layout=st.sampled_from([A, B, ()]),
        deadline=st.none() | st.integers(NOW - 600, NOW + 1200),
        since=st.integers(NOW - 600, NOW),
    ),
    min_size=1,
    max_size=12,
)


@given(QUEUES, st.integers(1, 8), st.sampled_from([0, 1, 500]))
def test_laws(queue: list[Waiting], max_rows: int, delay: int):
    queue.sort(key=due_ns)  # as a backlog is: so it need not be looked at to its end
    decision = form_batch(queue, NOW, BatchLimits(max_rows, delay))
    late = [w for w in queue if w.request.deadline_ns is not None and w.request.deadline_ns <= NOW]
    assert list(decision.expired) == late
    live = [w for w in queue if w not in late]
    if isinstance(decision, WaitUntil):
        assert NOW < decision.at_ns <= live[0].enqueued_ns + delay
        return
    assert len({item.layout for item in decision.items}) <= 1, "layouts were mixed"
    assert decision.rows <= max_rows or len(decision.items) == 1
    assert list(decision.items) == [w for w in queue if w in decision.items], "order was changed"
    assert bool(decision.items) == bool(live), "somebody could run and nobody does"
    if live:
        assert decision.items[0] is live[0], "the oldest does not lead"


@given(QUEUES, st.sampled_from([0, 500]))
def test_everybody_gets_a_turn(queue: list[Waiting], delay: int):
    """Asking again with what is left ends, and each request was in exactly one batch."""
    now, left, seen = NOW, list(queue), 0
    for _ in range(3 * len(queue) + 3):
        if not left:
            break
        decision = form_batch(left, now, BatchLimits(8, delay))
        items = () if isinstance(decision, WaitUntil) else decision.items
        seen += len(items) + len(decision.expired)
        left = [w for w in left if w not in items and w not in decision.expired]
        if isinstance(decision, WaitUntil):
            assert decision.at_ns > now
            now = decision.at_ns
    assert not left
    assert seen == len(queue)


def test_layout_leaves_out_the_batch_axis_and_keeps_the_order_of_the_signature():
    specs = [TensorSpec("b", "float32", ("batch", "n")), TensorSpec("a", "int8", ("batch",))]
    request = InferRequest("m", {"a": np.zeros(2, np.int8), "b": np.zeros((2, 7), np.float32)})
    assert layout_of(specs, request) == ((7,), ())


TINY = ((1, 9_000), (2, 9_300), (4, 9_700), (8, 10_400), (16, 11_500), (32, 14_500))
MID = ((1, 12_000), (2, 16_000), (4, 24_000), (8, 41_000), (16, 80_000), (32, 160_000))
CNN = ((1, 7_000_000), (2, 14_500_000), (4, 30_000_000))


@pytest.mark.parametrize(
    ("costs", "max_rows", "rows"),
    [
        ((), 32, 32),
        ((), 1, 1),
        (TINY, 32, 32),
        (TINY, 256, 256),  # still rising at the largest that was measured
        (TINY, 8, 8),
        (TINY, 1, 1),
        (TINY, 20, 20),
        (MID, 32, 8),  # more of them gain nothing
        (MID, 4, 4),
        (CNN, 32, 1),
        (((1, 100), (8, 100)), 8, 8),  # as many as were measured
        (((1, 100), (2, 195)), 32, 1),  # not worth the wait
        (((1, 100), (2, 150)), 32, 32),  # the time was up, and it was still rising
        (((1, 100), (2, 170)), 32, 2),
        (((1, 100), (2, 90), (4, 500)), 32, 2),
        (((1, 0), (2, 0)), 32, 32),
        (((1, 500),), 32, 1),
    ],
)
def test_paying_rows(costs: tuple, max_rows: int, rows: int):
    assert paying_rows(costs, max_rows) == rows


@given(
    st.lists(st.integers(1, 10**9), min_size=1, max_size=6),
    st.integers(1, 64),
)
def test_paying_rows_are_never_much_worse_than_the_best(times: list[int], max_rows: int):
    costs = [(1 << index, run_ns) for index, run_ns in enumerate(times)]
    rows = paying_rows(costs, max_rows)
    assert 1 <= rows <= max_rows
    rates = {size: size / run_ns for size, run_ns in costs if size <= max_rows}
    if rows in rates:
        assert rates[rows] * 1.1 >= max(rates.values()) * 0.999


@pytest.mark.parametrize(
    ("configured", "costs", "cores", "runs"),
    [
        (0, CNN, 2, 2),
        (0, CNN, 64, 4),
        (0, CNN, 1, 1),
        (0, TINY, 4, 4),
        (0, (), 4, 1),
        (3, TINY, 2, 3),
        (1, CNN, 4, 1),
    ],
)
def test_parallel_runs(configured: int, costs: tuple, cores: int, runs: int):
    assert parallel_runs(configured, costs, cores) == runs


def test_deadlines_of():
    assert deadlines_of([wait(), wait(deadline=NOW), wait(deadline=3)]) == [NOW, 3]
