"""Models that a new configuration leaves as they are: they stand, and no file of theirs is opened.

Decides of which nothing can have changed: the model's section, its bundles' files, by what these
were admitted, and what the store has of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edged.config.load import Snapshot
from edged.config.schema import ModelConfig
from edged.serving.desired import Desired
from edged.store.floors import FloorsNow
from edged.store.repository import Repository
from edged.store.seen import Glance
from edged.store.trust_store import TrustStore

if TYPE_CHECKING:
    from edged.generation.candidate import Candidate


@dataclass(frozen=True, slots=True)
class Terms:
    """By what bundles are admitted."""

    trust: TrustStore
    device: Mapping[str, str]
    floors: FloorsNow


class Carried:
    """What a new configuration has of the one in effect.

    Args:
        before: the one in effect; None: nothing that counts.
        snapshot: the new configuration.
        terms: by what its bundles are admitted.
        glance: at their files.
        repository: the store.
    """

    def __init__(
        self,
        before: Candidate | None,
        snapshot: Snapshot,
        terms: Terms,
        glance: Glance,
        repository: Repository,
    ) -> None:
        self._snapshot, self._glance, self._repository = snapshot, glance, repository
        self._before = before if before and _is_like(before, snapshot, terms) else None

    def releases(self, name: str, config: ModelConfig) -> tuple[Desired, ...] | None:
        """Those of a model that stands; None for one that is to be looked at.

        Args:
            name: of the model.
            config: its section.
        """
        made = self._before
        items = made.releases.get(name) if made is not None else None
        if made is None or not items or made.snapshot.config.models[name] != config:
            return None
        if name in made.broken or name in made.retired:
            return None
        digests = set()
        for path in self._snapshot.bundle_paths(name):
            look, before = self._glance.known(path), made.looks.get(path)
            # Read twice it is another object, and says the same.
            if look is None or (before is not look and before != look):
                return None
            if not self._repository.is_as_found(look):
                return None
            digests.add(look.digest)
        return items if digests == {item.digest for item in items} else None


def _is_like(made: Candidate, snapshot: Snapshot, terms: Terms) -> bool:
    """Whether models of one configuration can be those of another at all."""
    ours = made.snapshot
    if made.problems or ours.kept is not None or snapshot.kept is not None:
        return False
    return ours.root == snapshot.root and made.terms == terms
