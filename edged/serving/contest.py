"""The trial of a bundle that has several precisions: each proven, then all run side by side.

In worker processes of low priority: what crashes there harms nobody, and what serves goes first.
Such a priority makes every figure larger, but all of them alike, and only their order counts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edged.costs import Costs
from edged.errors import EdgedError
from edged.isolation import WorkerCaps, WorkerRuntime
from edged.loading import Stored, open_artefact, prove
from edged.manifest import ArtefactEntry
from edged.runtimes.base import Session
from edged.serving.choice import race
from edged.tensors import Array


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it went.

    Args:
        proven: precisions that reproduce their golden samples here.
        costs: what runs take, by precision; empty where there was no race.
        missed: why each of the others is out.
        crash: how a process died by its own doing; empty when none did.
        error: what the last one that is out raised.
    """

    proven: tuple[str, ...]
    costs: Mapping[str, Costs] = field(default_factory=dict)
    missed: Mapping[str, str] = field(default_factory=dict)
    crash: str = ""
    error: EdgedError | None = None


def hold_contest(
    stored: Stored, runtime: str, entries: Sequence[ArtefactEntry], caps: WorkerCaps
) -> Outcome:
    """Load each file into a process of its own, prove it, and race those that are proven.

    Args:
        stored: the verified bundle.
        runtime: which one loads them.
        entries: the model files, one of each precision.
        caps: of each process.
    """
    missed: dict[str, str] = {}
    workers: dict[str, WorkerRuntime] = {}
    sessions: dict[str, Session] = {}
    sample: Mapping[str, Array] = {}
    costs: Mapping[str, Costs] = {}
    error: EdgedError | None = None
    with contextlib.ExitStack() as stack:
        for entry in entries:
            workers[entry.precision] = worker = WorkerRuntime(runtime, caps)
            try:
                session = open_artefact(stored, worker, entry)
                stack.callback(session.close)
                sample = _prove(session, stored, entry)
            except EdgedError as exc:
                error, missed[entry.precision] = exc, exc.message
            else:
                sessions[entry.precision] = session
        if len(sessions) > 1:
            try:
                costs = race(sessions, sample, is_row_wise=stored.manifest.is_row_wise)
            except EdgedError as exc:
                error = exc
    crashes = {name: worker.crash for name, worker in workers.items() if worker.crash}
    missed |= {name: f"its trial died of {crash}" for name, crash in crashes.items()}
    proven = tuple(name for name in sessions if name not in missed)
    return Outcome(proven, costs, missed, next(iter(crashes.values()), ""), error)


def _prove(session: Session, stored: Stored, entry: ArtefactEntry) -> Mapping[str, Array]:
    manifest = stored.manifest
    return prove(session, manifest, stored.golden(entry), manifest.golden_of(entry))
