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


def test_answers_for_each_item():
    tally = Tally(["a"]).streams
    assert tally.as_dict() == {"requests": 0, "answers": 0, "first_answer_us": None}
    tally.requests += 2
    for index, since_ns in ((0, 2000), (1, 9000), (0, 4000)):
        tally.gave(index, since_ns)
    assert tally.as_dict() == {"requests": 2, "answers": 3, "first_answer_us": 3.0}
    assert tally.first_times[11] == tally.first_times[12] == 1
