"""How many rows run on the loop: learnt from times, with no clock."""

from __future__ import annotations

import pytest

from edged.serving.scheduling.inline import INLINE_ROWS, InlineRows

US = 1_000


@pytest.mark.parametrize(
    ("runs", "rows"),
    [
        ([], INLINE_ROWS),
        ([(100 * US, 32)] * 9, INLINE_ROWS),
        ([(600 * US, 32)] * 3, INLINE_ROWS),  # moments
        ([(600 * US, 32)] * 4, 16),
        ([(600 * US, 32)] * 3 + [(400 * US, 32)] + [(600 * US, 32)] * 3, INLINE_ROWS),
        ([(600 * US, 32)] * 8, 16),
        ([(600 * US, 32)] * 4 + [(600 * US, 16)] * 4, 8),
        ([(600 * US, 1)] * 40, 1),
        ([(600 * US, 32)] * 4 + [(100 * US, 32)], 32),  # it was the machine
        ([(600 * US, 32)] * 4 + [(300 * US, 32)], 16),
        ([(600 * US, 32)] * 4 + [(100 * US, 500)], INLINE_ROWS),
    ],
)
def test_rows(runs: list[tuple[int, int]], rows: int):
    inline = InlineRows()
    for run_ns, run_rows in runs:
        inline.learn(run_ns, run_rows)
    assert inline.rows == rows
    assert inline.last_ns == (runs[-1][0] if runs else 0)
