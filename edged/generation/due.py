"""Whether the same files come to something else than what is in effect: no digest tells of it.

Decides nothing of files that have changed; runs on a thread, and builds what serves anew only where
something is odd about it.
"""

from __future__ import annotations

from edged.config.load import Snapshot
from edged.generation.candidate import Candidate, build_candidate, is_other_trust
from edged.store.repository import Repository


def is_due(made: Candidate, files: Snapshot, repository: Repository) -> bool:
    """Whether files are to be applied although they are those of what is in effect.

    Args:
        made: what is in effect.
        files: as they are now.
        repository: the store.
    """
    return (
        # It came back by itself; the files that it was of are an operator's word again.
        made.snapshot.narrowed is not None
        or is_other_trust(made, repository)
        or bool(made.problems and _is_servable(files, repository))
        or bool(made.retired and _is_signed_anew(made, files, repository))
    )


def _is_signed_anew(made: Candidate, files: Snapshot, repository: Repository) -> bool:
    """Whether something else goes on by keys that were retired: bundles were signed since."""
    now = build_candidate(files, repository)
    return not now.problems and now.retired != made.retired


def _is_servable(snapshot: Snapshot, repository: Repository) -> bool:
    """Whether a configuration can be served as a whole by now; asked of one that could not.

    Its digest need not tell: that covers a bundle's manifest, not a damaged member that was copied
    again, nor a full disk that has room now.
    """
    return not build_candidate(snapshot, repository).problems
