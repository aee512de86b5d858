"""One engine on its way: what wants it, where it is, and what is told of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from edged.engines.bench import Process, Task
from edged.engines.policy import NEVER_NS, RUNNING, Phase, View, Weather, held_back


@dataclass(frozen=True, slots=True)
class Wanted:
    """An engine that a release wants.

    Args:
        task: what to build.
        release: number of the release.
        digest: of its bundle.
        is_served: whether it runs on TensorRT now; without an engine of ours it is the bundle's.
    """

    task: Task
    release: int
    digest: str
    is_served: bool = False


@dataclass(frozen=True, slots=True)
class FoundryRules:
    """What an operator says.

    Args:
        is_automatic: whether builds begin by themselves.
        memory_bytes: most memory of a building process.
        timeout_ns: the longest build.
        quiet_ns: how long nothing was loaded before one begins.
    """

    is_automatic: bool
    memory_bytes: int
    timeout_ns: int = NEVER_NS
    quiet_ns: int = 0


@dataclass(slots=True)
class Build:
    """One of them, and where it is."""

    wanted: Wanted
    order: int
    phase: Phase = Phase.WANTED
    is_wanted: bool = True
    failures: int = 0
    retry_at_ns: int = 0
    why: str = ""
    seconds: float = 0.0
    process: Process | None = None
    worked_ns: int = 0
    resumed_at_ns: int = 0
    end: str | None = None
    task: asyncio.Task[None] | None = field(default=None, repr=False)

    def told(self, rules: FoundryRules, weather: Weather, now_ns: int) -> dict[str, Any]:
        """For people and programs."""
        task, waits = self.wanted.task, ""
        if self.phase is Phase.WANTED and not rules.is_automatic:
            waits = f"edged build {task.model}"
        elif self.phase is Phase.WANTED:
            waits = held_back(weather, now_ns) or "its turn"
        elif self.phase is Phase.PAUSED:
            waits = weather.trouble
        is_timed = self.phase is Phase.FAILED and self.retry_at_ns != NEVER_NS
        return {
            "model": task.model,
            "release": self.wanted.release,
            "precision": task.wish.entry.precision,
            "phase": self.phase.value,
            "step": self.process.step if self.process is not None else "",
            "waits_for": waits,
            "seconds": round(self.worked(now_ns) / 1e9, 1) if self.process else self.seconds,
            "failures": self.failures,
            "reason": self.why,
            "retry_in_s": round(max(0, self.retry_at_ns - now_ns) / 1e9, 1) if is_timed else None,
        }

    def view(self, name: str, now_ns: int) -> View:
        """What the policy may know."""
        return View(
            name,
            self.phase,
            is_wanted=self.is_wanted,
            retry_at_ns=self.retry_at_ns,
            worked_ns=self.worked(now_ns),
            order=self.order,
        )

    def may_change(self, rules: FoundryRules) -> bool:
        """Whether the policy has to look at it: it runs, or may begin by itself."""
        if self.phase in RUNNING:
            return True
        is_due = self.phase in (Phase.WANTED, Phase.FAILED) and self.retry_at_ns != NEVER_NS
        return rules.is_automatic and is_due

    def worked(self, now_ns: int) -> int:
        """How long its process was at work, nanoseconds."""
        at_work = now_ns - self.resumed_at_ns if self.phase is Phase.BUILDING else 0
        return self.worked_ns + (at_work if self.resumed_at_ns else 0)
