"""The trial of a bundle that can run in several ways: each proven, then all run side by side.

In worker processes of low priority: what crashes there harms nobody, and what serves goes first.
Such a priority makes every figure larger, but all of them alike, and only their order counts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from edged.costs import Costs
from edged.device.waiting import waited_ns
from edged.errors import BundleError, EdgedError, LoadError, WorkerDiedError
from edged.loading import open_artefact, prove
from edged.manifest import ArtefactEntry
from edged.runtimes.base import Session
from edged.serving.choosing.choice import Pair, race
from edged.store.stored import Stored
from edged.tensors import Array
from edged.workers.isolation import WorkerCaps, WorkerRuntime, WorkerSession


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it went.

    Args:
        proven: those that reproduce their golden samples here.
        costs: what their runs take; empty where there was no race.
        missed: why each of the others is out.
        crash: how a process died by its own doing; empty when none did.
        error: what the last one that is out raised.
        is_final: whether the same would come of it again: nobody was out for want of time or
            memory, no race failed, and in it each was let run undisturbed at least once.
    """

    proven: tuple[Pair, ...]
    costs: Mapping[Pair, Costs] = field(default_factory=dict)
    missed: Mapping[Pair, str] = field(default_factory=dict)
    crash: str = ""
    error: EdgedError | None = None
    is_final: bool = True


def hold_contest(
    stored: Stored, entries: Mapping[Pair, ArtefactEntry], caps: WorkerCaps
) -> Outcome:
    """Load each file into a process of its own, prove it, and race those that are proven.

    Args:
        stored: the verified bundle.
        entries: the model files, by what they are loaded as.
        caps: of each process.
    """
    missed: dict[Pair, str] = {}
    workers: dict[Pair, WorkerRuntime] = {}
    sessions: dict[Pair, Session] = {}
    sample: Mapping[str, Array] = {}
    costs: Mapping[Pair, Costs] = {}
    errors: list[EdgedError] = []
    disturbed: set[Pair] = set()
    with contextlib.ExitStack() as stack:
        for pair, entry in entries.items():
            workers[pair] = worker = WorkerRuntime(pair.runtime, caps)
            try:
                session = open_artefact(stored, worker, entry)
                stack.callback(session.close)
                sample = _prove(session, stored, entry)
            except EdgedError as exc:
                errors.append(exc)
                missed[pair] = exc.message
            else:
                sessions[pair] = session
        while len(sessions) > 1 and not costs:
            try:
                disturbed.clear()
                costs = race(
                    sessions, sample, is_row_wise=stored.manifest.is_row_wise,
                    waits=_waited_ns, disturbed=disturbed,
                )  # fmt: skip
            except EdgedError as exc:
                errors.append(exc)
                dead = [pair for pair in sessions if workers[pair].crash]
                if not dead:
                    break
                for pair in dead:
                    del sessions[pair]
    crashes = {pair: worker.crash for pair, worker in workers.items() if worker.crash}
    missed |= {pair: f"its trial died of {crash}" for pair, crash in crashes.items()}
    proven = tuple(pair for pair in sessions if pair not in missed)
    error = errors[-1] if errors else None
    is_final = all(map(_is_final, errors)) and not disturbed
    return Outcome(proven, costs, missed, next(iter(crashes.values()), ""), error, is_final)


def _waited_ns(session: Session) -> int:
    return waited_ns(session.pid) if isinstance(session, WorkerSession) else 0


def _is_final(error: EdgedError) -> bool:
    if isinstance(error, WorkerDiedError):
        return bool(error.crash)
    return isinstance(error, BundleError | LoadError)


def _prove(session: Session, stored: Stored, entry: ArtefactEntry) -> Mapping[str, Array]:
    manifest = stored.manifest
    return prove(session, manifest, stored.golden(entry), manifest.golden_of(entry))
