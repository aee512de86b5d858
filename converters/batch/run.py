"""A whole batch: what is done stays, the rest runs as many at a time as there are slots."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from converters.batch.executor import Executor
from converters.batch.job import Job, Outcome
from converters.batch.state import is_done, opened_folder, read_state, write_state
from converters.show import Table


class Watcher(Protocol):
    """Whoever shows how it goes."""

    def started(self, name: str) -> None:
        """A job begins."""

    def ended(self, outcome: Outcome, count: int, total: int) -> None:
        """A job has ended, the ``count``-th of ``total``."""


def run_batch(
    jobs: Sequence[Job], folder: Path, executor: Executor, watcher: Watcher, *, resume: bool
) -> list[Outcome]:
    """Run jobs and keep what becomes of each; one that fails stops no other.

    Args:
        jobs: what to make.
        folder: where the bundles and the state lie.
        executor: where they run; closed when this returns or is interrupted.
        watcher: told of each.
        resume: leave out what is done.

    Returns:
        What became of each, in the order of the jobs.

    Raises:
        ConversionError: the folder cannot be used.
    """
    with opened_folder(folder, jobs):
        before = read_state(folder) if resume else {}
        outcomes = {
            job.name: before[job.name] for job in jobs if is_done(job, before.get(job.name))
        }
        kept = len(outcomes)
        waiting = deque(job for job in jobs if job.name not in outcomes)
        write_state(folder, outcomes.values())
        running = 0
        try:
            while waiting or running:
                while waiting and running < executor.slots:
                    job = waiting.popleft()
                    watcher.started(job.name)
                    executor.submit(job)
                    running += 1
                outcome = executor.next_done()
                assert outcome is not None
                running -= 1
                outcomes[outcome.name] = outcome
                ordered = [outcomes[job.name] for job in jobs if job.name in outcomes]
                write_state(folder, ordered)
                watcher.ended(outcome, len(outcomes) - kept, len(jobs) - kept)
        finally:
            executor.close()
        return [outcomes[job.name] for job in jobs]


def describe_batch(outcomes: Sequence[Outcome], ran: frozenset[str]) -> list[Table]:
    """The summary for people.

    Args:
        outcomes: what became of each job.
        ran: the jobs that ran this time; the others were done before.
    """
    rows = tuple(
        (
            outcome.name,
            outcome.status if outcome.name in ran else "done before",
            f"{outcome.seconds:.1f}",
            memory(outcome),
            outcome.error or f"{outcome.grade} {outcome.digest[:12]}",
        )
        for outcome in outcomes
    )
    failed = sum(outcome.status == "failed" for outcome in outcomes)
    title = f"batch: {len(outcomes) - failed} done, {failed} failed"
    return [Table(title, ("bundle", "", "seconds", "peak MiB", "digest or reason"), rows)]


def describe_outcome(outcome: Outcome, count: int, total: int) -> str:
    """One job in one line."""
    what = "done" if outcome.status == "done" else f"FAILED: {outcome.error}"
    return (
        f"[{count}/{total}] {outcome.name}: {outcome.seconds:.1f} s, {memory(outcome)} MiB, {what}"
    )


def memory(outcome: Outcome) -> str:
    """The most memory in MiB, or a dash where the process could not say."""
    return "-" if outcome.peak_bytes is None else f"{outcome.peak_bytes / (1 << 20):.0f}"
