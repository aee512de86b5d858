"""Whether the store will have room for a bundle that is installed."""

from __future__ import annotations

from pathlib import Path

from edged.config.snapshot import Snapshot
from edged.errors import EdgedError, IncompatibleError
from edged.generation.history import History
from edged.generation.record import HISTORY
from edged.manifest import Manifest
from edged.specs import size_words
from edged.store.stored import open_release


def check_quota(state_dir: Path, snapshot: Snapshot, manifest: Manifest) -> None:
    """Refuse to install what the store could not take, whatever left it before.

    Raises:
        IncompatibleError: what is needed and this bundle are more than store.max_bytes.
    """
    cap = snapshot.config.store.max_bytes
    if cap is None:
        return
    needed = 0
    try:
        pinned = History(state_dir / HISTORY).pinned().digests
    except OSError:
        return  # not ours to read; the daemon looks again before it takes it in
    for digest in pinned:
        try:
            stored = open_release(state_dir / "store", digest).manifest
        except (EdgedError, OSError):
            continue
        needed += sum(member.size for member in stored.members)
    size = sum(member.size for member in manifest.members)
    if needed + size > cap:
        raise IncompatibleError(
            f"release {manifest.release} of {manifest.name} has {size_words(size)}, and what the "
            f"store has to keep {size_words(needed)}: together more than store.max_bytes, "
            f"{size_words(cap)}; raise it, or keep fewer configurations to go back to "
            "(store.generations)"
        )
