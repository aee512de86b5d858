"""Models that a new configuration leaves as they are: they stand, and no file of theirs is opened.

Decides of which nothing can have changed: the model's section, its bundles' files, by what these
were admitted, and that its releases are in memory, so that nothing is asked of the store now. A
damage there is found when one of them is to be loaded again, and at the next start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edged.config.load import Snapshot
from edged.config.schema import ModelConfig
from edged.serving.desired import Desired
from edged.serving.lifecycle import ReleaseKey
from edged.store.floors import FloorsNow
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


@dataclass(frozen=True, slots=True)
class InEffect:
    """What serves while a configuration is looked at.

    Args:
        candidate: the one in effect.
        is_loaded: whether a release is in memory and answers; asked on a thread.
    """

    candidate: Candidate
    is_loaded: Callable[[ReleaseKey], bool]


class Carried:
    """What a new configuration has of the one in effect.

    Args:
        before: what serves; None: nothing that counts.
        snapshot: the new configuration.
        terms: by what its bundles are admitted.
        glance: at their files.
    """

    def __init__(
        self, before: InEffect | None, snapshot: Snapshot, terms: Terms, glance: Glance
    ) -> None:
        self._snapshot, self._glance = snapshot, glance
        self._before = before if before and _is_like(before.candidate, snapshot, terms) else None

    def releases(self, name: str, config: ModelConfig) -> tuple[Desired, ...] | None:
        """Those of a model that stands; None for one that is to be looked at.

        Args:
            name: of the model.
            config: its section.
        """
        if self._before is None:
            return None
        made = self._before.candidate
        items = made.releases.get(name)
        if not items or made.snapshot.config.models[name] != config:
            return None
        if name in made.broken or name in made.retired:
            return None
        digests = set()
        for path in self._snapshot.bundle_paths(name):
            look, before = self._glance.known(path), made.looks.get(path)
            # Read twice it is another object, and says the same.
            if look is None or (before is not look and before != look):
                return None
            digests.add(look.digest)
        if digests != {item.digest for item in items}:
            return None
        return items if all(self._before.is_loaded(item.key) for item in items) else None


def _is_like(made: Candidate, snapshot: Snapshot, terms: Terms) -> bool:
    """Whether models of one configuration can be those of another at all."""
    ours = made.snapshot
    if made.problems or ours.kept is not None or snapshot.kept is not None:
        return False
    return ours.root == snapshot.root and made.terms == terms
