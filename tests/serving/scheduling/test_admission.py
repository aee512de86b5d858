"""Who is told at once that it could only be late: rows of a table."""

from __future__ import annotations

import pytest

from edged.config.schema import QueueConfig
from edged.serving.scheduling.admission import Pace, lateness_ns, queue_full, too_late
from edged.serving.scheduling.backlog import PATIENCE_NS
from edged.serving.scheduling.forecast import Forecast
from tests.serving.scheduling.test_backlog import held
from tests.serving.scheduling.test_scheduler import wait

MS = 1_000_000
TIMES = Forecast(((1, 4 * MS),))


def at(ms: float, rows: int = 1):
    return wait(rows, deadline=int(ms * MS), since=0)


# what waits, the newcomer, rows under way, late by, and how long the first waits at the least
ROWS = {
    "nothing before it": ([], at(4), 0, 0),
    "its own run is too long": ([], at(3), 0, 1),
    "in time behind two": ([at(50), at(60)], at(70), 0, 0),
    "just in time": ([at(5), at(6)], at(14), 0, 0),
    "late behind two": ([at(5), at(6)], at(13), 0, 1),
    "late behind what runs": ([], at(13), 2, 1),
    "rows count, not requests": ([at(5, 4)], at(23), 0, 1),
    "its own rows count": ([at(5)], at(12, 2), 0, 1),
    "it goes before the later ones": ([at(50), at(60), at(70)], at(5), 0, 0),
    "it would make a later one late": ([at(4.5)], at(4.2), 0, 4.5),
    "one that has time does not mind": ([at(50)], at(4.2), 0, 0),
    "one that is late anyhow keeps nobody out": ([at(5), at(6)], at(4.2), 0, 4),
    "who has no deadline is never late": ([at(5), at(6)], wait(since=0), 9, 0),
    "nor made late": ([wait(since=0)], at(4), 0, 0),
    "the first waits for others": ([], at(13), 0, 1, 10),
    "who is behind it waits no longer for that": ([at(50), at(60)], at(70), 0, 0, 10),
    "nobody can be before the first": ([at(50)], at(13), 0, 1, 10),
    "but waits in its place": ([wait(since=0)], at(PATIENCE_NS / MS + 1), 0, 0),
}


@pytest.mark.parametrize("name", ROWS)
def test_lateness(name: str):
    queue, item, running, late_ms, first_ms = (*ROWS[name], 0)[:5]
    found = lateness_ns(held(*queue), item, 0, Pace(5 * MS, running, first_ms * MS, TIMES))
    assert found == late_ms * MS


def test_an_unknown_pace_keeps_nobody_out():
    assert lateness_ns(held(at(1), at(2)), at(3), 0, Pace(0.0, 9, 0, Forecast())) == 0


def test_words():
    full = queue_full("m", QueueConfig(max_rows=3), held(wait(3)), 2e6)
    assert full.retry_after_ns == 6 * MS
    assert full.message.startswith("m: its queue is full (3 rows, 48 bytes wait; the limits are 3")
    assert queue_full("m", QueueConfig(), held(), 0).retry_after_ns == MS
    late = too_late("m", 7, 2_500_000)
    assert "7 rows run or wait" in late.message
    assert "2.5 ms late" in late.message
    assert late.retry_after_ns == 2_500_000
