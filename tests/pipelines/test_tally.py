"""Counts of steps."""

from edged.pipelines.tally import Tally


def test_counts():
    tally = Tally(["a", "b"])
    tally.steps["a"].did(2000)
    tally.steps["a"].did(4000)
    tally.steps["b"].skipped += 1
    assert tally.as_list() == [
        {"step": "a", "done": 2, "skipped": 0, "failed": 0, "mean_us": 3.0},
        {"step": "b", "done": 0, "skipped": 1, "failed": 0, "mean_us": None},
    ]
    assert tally.steps["a"].times[11] == tally.steps["a"].times[12] == 1
