"""What a pipeline and its steps have done, as plain integers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from edged.serving.counters import Counters
from edged.telemetry.exposition import CELLS


class StepTally:
    """Totals of one step; times in nanoseconds, from begun to done, waiting included."""

    __slots__ = ("done", "failed", "skipped", "spent_ns", "times")

    def __init__(self) -> None:
        self.done = 0
        self.failed = 0
        self.skipped = 0
        self.spent_ns = 0
        self.times = [0] * CELLS

    def did(self, spent_ns: int) -> None:
        """The step was done."""
        self.done += 1
        self.spent_ns += spent_ns
        self.times[(spent_ns - 1).bit_length()] += 1


class StreamTally:
    """Totals of the requests that got an answer for each item; times in nanoseconds."""

    __slots__ = ("answers", "first_ns", "first_times", "requests")

    def __init__(self) -> None:
        self.requests = 0
        self.answers = 0
        self.first_ns = 0
        self.first_times = [0] * CELLS

    def gave(self, index: int, since_ns: int) -> None:
        """An answer was given, so long after the request was taken."""
        self.answers += 1
        if not index:
            self.first_ns += since_ns
            self.first_times[(since_ns - 1).bit_length()] += 1

    def as_dict(self) -> dict[str, Any]:
        """For the status page."""
        begun = sum(self.first_times)
        mean_us = round(self.first_ns / begun / 1000, 1) if begun else None
        return {"requests": self.requests, "answers": self.answers, "first_answer_us": mean_us}


class Tally:
    """Totals of one pipeline.

    Args:
        steps: their names.
    """

    def __init__(self, steps: Iterable[str]) -> None:
        self.counters = Counters()
        self.streams = StreamTally()
        self.steps = {name: StepTally() for name in steps}

    def as_list(self) -> list[dict[str, Any]]:
        """For the status page."""
        return [
            {
                "step": name,
                "done": step.done,
                "skipped": step.skipped,
                "failed": step.failed,
                "mean_us": round(step.spent_ns / step.done / 1000, 1) if step.done else None,
            }
            for name, step in self.steps.items()
        ]
