"""What a release can have in hand."""

from __future__ import annotations

import pytest

from edged.serving.scheduling.capacity import places_of

MS = 1_000_000


@pytest.mark.parametrize(
    ("rows", "run_ns", "queue_rows", "places"),
    [
        (1, 0, 1024, 0),
        (1, 1 * MS, 10_000, 1000),
        (1, 100 * MS, 1024, 10),
        (1, 300 * MS, 1024, 4),
        (1, 1000 * MS, 1024, 2),
        (1, 60_000 * MS, 1024, 2),
        (8, 60_000 * MS, 1024, 16),
        (4, 100 * MS, 1024, 40),
        (4, 100 * MS, 8, 12),
        (32, 1, 1024, 1056),
    ],
)
def test_a_second_of_work_but_two_batches_and_no_more_than_may_wait(
    rows: int, run_ns: int, queue_rows: int, places: int
) -> None:
    assert places_of(rows, run_ns, queue_rows) == places
