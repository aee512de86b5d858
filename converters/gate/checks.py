"""What the gate looked at and what came of it: words for the report."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from msgspec import Struct

Verdict = Literal["passed", "remark", "not checked"]


class Check(Struct, frozen=True):
    """One thing that the gate looked at; what it refuses ends the conversion instead.

    Args:
        name: a short name.
        verdict: ``passed``; ``remark`` where something is worth knowing; ``not checked`` with the
            reason, which is never taken for passed.
        detail: what was held against what.
        seconds: how long it took here.
    """

    name: str
    verdict: Verdict
    detail: str
    seconds: float = 0.0


@dataclass
class Checks:
    """The checks so far, in order."""

    done: list[Check] = field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Iterator[list[str]]:
        """Time one check that passes unless it raises; what is put into the list is its detail."""
        detail: list[str] = []
        start = time.perf_counter()
        yield detail
        self.add(name, "passed", "; ".join(detail), time.perf_counter() - start)

    def add(self, name: str, verdict: Verdict, detail: str, seconds: float = 0.0) -> None:
        """Note what came of a check."""
        self.done.append(Check(name, verdict, detail, seconds))
