"""The last good releases: what serves while a model cannot be served as it was asked for.

Decides which release of the store stands in, and for how long; never loads one. A key that the
operator took away takes its releases with it, also those that serve.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping

from edged.errors import EdgedError
from edged.generation.candidate import Candidate
from edged.generation.trusted import load_trust
from edged.serving.manager import Desired, Manager
from edged.serving.release import ServedRelease
from edged.serving.router import Route
from edged.store.repository import Repository
from edged.store.stored import StoredRelease
from edged.store.targets import check_here, device_words
from edged.store.trust_state import LostTrust
from edged.store.trust_store import RetiredKeyError

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


def lost_models(routes: Mapping[str, Route]) -> frozenset[str]:
    """Models that nothing answers for, because what answered is in quarantine."""
    return frozenset(
        name
        for name, route in routes.items()
        if any(one.is_quarantined for one in route.releases.values()) and not route.is_ready
    )


class Fallbacks:
    """The releases that stand in at present, and how they are found and kept.

    Args:
        manager: loads them.
        repository: the store.
    """

    def __init__(self, manager: Manager, repository: Repository) -> None:
        self._manager = manager
        self._repository = repository
        self.serving: Mapping[str, Desired] = {}

    async def find(self, candidate: Candidate) -> None:
        """For models that cannot be served as asked: load the release that served last."""
        manager = self._manager
        lost = [
            name
            for name, items in candidate.releases.items()
            if not any(_is_served(manager.get(item.key)) for item in items)
        ]
        found = await asyncio.to_thread(find_fallbacks, candidate, lost, self._repository)
        if found:
            manager.want([*candidate.desired(), *found.values()])
            await manager.settled([item.key for item in found.values()])
        self.serving = found

    async def kept(self, candidate: Candidate) -> dict[str, Desired]:
        """Those that may serve on under another configuration."""
        return await asyncio.to_thread(keep_fallbacks, candidate, self.serving, self._repository)

    def keep(self, fallbacks: Mapping[str, Desired], routes: Mapping[str, Route]) -> None:
        """Serve on by those whose model still has no release of its own.

        Also by one that is not ready at the moment: its worker is being started again.
        """
        self.serving = {
            name: item for name, item in fallbacks.items() if not _has_own(routes[name])
        }


def _is_served(release: ServedRelease) -> bool:
    """Also one that an administrator unloaded: nothing stands in for that."""
    return release.answers or release.is_dismissed


def _has_own(route: Route) -> bool:
    release = route.default_release()
    return release is not None and release is not route.fallback


def _trusted(
    candidate: Candidate, name: str, digest: str, repository: Repository
) -> StoredRelease | None:
    try:
        stored = repository.release(digest)
        trust = load_trust(candidate.snapshot, repository.state_dir)
        try:
            stored.verify(trust)
        except RetiredKeyError as exc:
            if isinstance(trust, LostTrust) and repository.current(name) != digest:
                raise
            log.warning(
                "model %s: release %s stands in, although %s", name, digest[:12], exc.message
            )
        repository.floors.check(stored.manifest, stored.digest)
        check_here(stored.manifest, device_words(candidate.snapshot.config.labels))
    except (EdgedError, OSError) as exc:
        log.warning("model %s: the last good release is lost too: %s", name, exc)
        return None
    return stored
