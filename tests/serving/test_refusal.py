"""For whom a refusal holds that somebody else has just got."""

from __future__ import annotations

import pytest

from edged.errors import QueueFullError
from edged.serving.refusal import MOMENT_NS, Queue, Refusal, full
from edged.serving.scheduling.backlog import Backlog

NOW = 10**12
QUEUE = Queue.of(Backlog(), 1, 2)
FULL = QueueFullError("full")
LATE = Refusal(2, QUEUE, need_ns=1000, due_ns=NOW + 500, until_ns=NOW + MOMENT_NS, error=FULL)


@pytest.mark.parametrize("deadline_ns", [None, NOW, NOW + 10**12])
def test_a_full_queue_is_full_for_all(deadline_ns: int | None) -> None:
    assert full(2, QUEUE, NOW, FULL).holds(2, deadline_ns, NOW, QUEUE)


@pytest.mark.parametrize(
    ("deadline_ns", "holds"),
    [(None, False), (NOW + 499, False), (NOW + 500, True), (NOW + 999, True), (NOW + 1000, False)],
)
def test_who_would_be_late_at_the_end_of_it(deadline_ns: int | None, holds: bool) -> None:
    assert LATE.holds(2, deadline_ns, NOW, QUEUE) is holds


@pytest.mark.parametrize("known", [LATE, full(2, QUEUE, NOW, FULL)])
def test_for_as_many_rows_and_a_moment_and_while_nothing_moved(known: Refusal) -> None:
    due_ns = NOW + 600
    assert known.holds(2, due_ns, NOW, QUEUE)
    assert not known.holds(1, due_ns, NOW, QUEUE)
    assert not known.holds(2, due_ns + MOMENT_NS, NOW + MOMENT_NS, QUEUE)
    for field in Queue._fields:
        other = QUEUE._replace(**{field: getattr(QUEUE, field) + 1})
        assert not known.holds(2, due_ns, NOW, other), field
