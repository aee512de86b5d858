"""The last good releases: what serves while a model cannot be served as it was asked for.

Decides which release of the store stands in, and for how long; never loads one. A key that the
operator took away takes its releases with it, also those that serve.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping

from edged.candidate import Candidate, load_trust
from edged.errors import EdgedError
from edged.serving.manager import Desired
from edged.store.repository import Repository
from edged.store.stored import StoredRelease

log = logging.getLogger("edged.reload")


def find_fallbacks(
    candidate: Candidate, models: Collection[str], repository: Repository
) -> dict[str, Desired]:
    """Look in the slots for what served before; runs on a thread.

    Args:
        candidate: the configuration.
        models: those that have no release ready.
        repository: the store.

    Returns:
        By model, a release that is whole, trusted and not the one that was tried already.
    """
    found: dict[str, Desired] = {}
    tried = {item.digest for item in candidate.desired()}
    for name in models:
        for digest in (repository.current(name), repository.previous(name)):
            if digest is None or digest in tried:
                continue
            stored = _trusted(candidate, name, digest, repository)
            if stored is not None:
                config = candidate.snapshot.config.models[name]
                found[name] = Desired(digest, stored, config)
                break
    return found


def keep_fallbacks(
    candidate: Candidate, serving: Mapping[str, Desired], repository: Repository
) -> dict[str, Desired]:
    """Those of the fallbacks that may serve on under another configuration; runs on a thread."""
    wanted = candidate.snapshot.config.models
    return {
        name: item
        for name, item in serving.items()
        if name in wanted and _trusted(candidate, name, item.digest, repository) is not None
    }


def _trusted(
    candidate: Candidate, name: str, digest: str, repository: Repository
) -> StoredRelease | None:
    try:
        stored = repository.release(digest)
        stored.verify(load_trust(candidate.snapshot))
    except (EdgedError, OSError) as exc:
        log.warning("model %s: the last good release is lost too: %s", name, exc)
        return None
    return stored
