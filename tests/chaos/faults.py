"""Which faults happen when: a plan that follows from a seed. Pure."""

from __future__ import annotations

import random
from typing import Literal, NamedTuple

Kind = Literal["daemon_kill", "broker_stop", "broker_kill", "cut"]
LONG_S = (5.0, 6.5)
SHORT_S = (0.2, 1.5)


class Fault(NamedTuple):
    """One fault.

    Args:
        at_s: since the begin.
        kind: what happens.
        target: which broker or link; 0 for the daemon.
        lasts_s: until it is mended.
        choice: a number that decides what is left to decide.
    """

    at_s: float
    kind: Kind
    target: int
    lasts_s: float
    choice: float

    @property
    def is_long(self) -> bool:
        """Whether it keeps a broker away for five seconds or more."""
        return self.kind != "daemon_kill" and self.lasts_s >= LONG_S[0]


def plan(seed: int, count: int, seconds: float, targets: int = 2) -> list[Fault]:
    """So many faults in so much time; every third keeps a broker away for long.

    No two faults lie on one target at a time; the daemon may be killed at any.
    """
    rng = random.Random(seed)
    step = seconds / count
    free_s = [0.0] * targets
    found: list[Fault] = []
    owed = 0
    for index in range(count):
        at = index * step + rng.uniform(0, step * 0.9)
        owed += index % 3 == 0
        ready = [number for number in range(targets) if free_s[number] <= at]
        is_long = bool(owed and ready)
        if not ready or (not is_long and rng.random() < 0.7):
            lasts = rng.uniform(0, 0.5)
            found.append(Fault(at, "daemon_kill", 0, lasts, rng.random()))
            continue
        owed -= is_long
        target = rng.choice(ready)
        kind = rng.choice(("broker_stop", "broker_kill", "cut", "cut"))
        lasts = rng.uniform(*(LONG_S if is_long else SHORT_S))
        free_s[target] = at + lasts + 0.5
        found.append(Fault(at, kind, target, lasts, rng.random()))  # type: ignore[arg-type]
    return found
