"""What a configuration asks for, with whatever of it can be made beside the event loop.

Hundreds of models are looked at here once more than for the candidate alone, so that the loop,
which answers meanwhile, need not.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from edged.checks.budget import budgets_of
from edged.config.diff import diff
from edged.config.load import Snapshot
from edged.generation.candidate import Candidate, build_candidate
from edged.generation.followed import followed_paths
from edged.store.repository import Repository
from edged.system.breath import breathe


class Asked(NamedTuple):
    """See above.

    Args:
        candidate: its releases.
        changes: how many fields are others than those in effect.
        budgets: bytes by device (``budgets_of``).
        paths: what it names (``followed_paths``).
    """

    candidate: Candidate
    changes: int
    budgets: Mapping[str, int]
    paths: list[Path]


def look_at(
    snapshot: Snapshot, before: Candidate, followed: list[Path], repository: Repository
) -> Asked:
    """Verify and store what a configuration names; runs on a thread.

    Args:
        snapshot: the configuration.
        before: the one in effect.
        followed: what that one names; given back where it is the same, which is told at once.
        repository: the store.
    """
    changes = len(diff(before.snapshot.config, snapshot.config))
    breathe()
    candidate = build_candidate(snapshot, repository, before)
    breathe()
    paths = followed_paths(snapshot, repository.state_dir)
    breathe()
    if followed == paths:
        paths = followed
    breathe()
    return Asked(candidate, changes, budgets_of(snapshot.config), paths)


def let_go(made: list[Candidate]) -> None:
    """Forget a candidate that nobody else has; runs on a thread.

    Its thousands of parts go one after the other: at once they would keep the interpreter for as
    long as a request takes.

    Args:
        made: the only one who has it, emptied at once.
    """
    candidate = made.pop()
    config, marks = candidate.snapshot.config, list(candidate.snapshot.marks.values())
    parts: list[object] = [*config.models.values(), *config.bindings]
    parts += candidate.releases.values()
    del candidate, config
    for few in (parts, marks):
        while few:
            del few[-8:]
            breathe()
