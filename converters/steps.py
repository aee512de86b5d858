"""The steps of a conversion as they went on this machine: time and memory, for the report."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Step:
    """One step of a conversion as it went on this machine.

    Args:
        name: what was done.
        seconds: how long it took.
        peak_bytes: the largest memory that this process, or one it started, had held by its end.
    """

    name: str
    seconds: float
    peak_bytes: int


@dataclass
class Steps:
    """Tells each step as it begins, and keeps what it took."""

    progress: Progress
    done: list[Step] = field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Tell a step, and time it; one that raises is not kept."""
        self.progress(name)
        start = time.perf_counter()
        yield
        who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        peak = max(resource.getrusage(one).ru_maxrss for one in who) * 1024
        self.done.append(Step(name, time.perf_counter() - start, peak))
