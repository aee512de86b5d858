"""Which models something may have to be done for: of hundreds nearly all serve, and are wanted.

Pure: looks at releases, changes none.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

from edged.serving.lifecycle import NEVER_NS, ReleaseKey, State
from edged.serving.release import ServedRelease
from edged.serving.standing import Standing

Releases = Mapping[ReleaseKey, ServedRelease]


class Unrest:
    """Finds them; at once where nothing changed since there was none."""

    def __init__(self) -> None:
        self._rested: tuple[int, int] | None = None

    def is_over(self, aims: int) -> bool:
        """Whether all were found to serve and to be wanted, and nothing changed since."""
        return self._rested == (Standing.moves, aims)

    def find(
        self, releases: Releases, desired: Container[ReleaseKey], aims: int
    ) -> dict[str, list[ReleaseKey]]:
        """By model for which ``next_action`` may have something to say, all of its releases.

        Args:
            releases: all there are.
            desired: those that should be there.
            aims: how often it was said what should be there.
        """
        now = Standing.moves, aims
        if now == self._rested:
            return {}
        ready = State.READY
        restless = {
            key.model
            for key, release in releases.items()
            if release.state is not ready or key not in desired
        }
        self._rested = None if restless else now
        models: dict[str, list[ReleaseKey]] = {}
        if restless:
            for key in releases:
                if key.model in restless:
                    models.setdefault(key.model, []).append(key)
        return models


def retry_at_ns(
    releases: Releases, desired: Container[ReleaseKey], models: Mapping[str, list[ReleaseKey]]
) -> int | None:
    """When the first failed load of these models may be tried again; None when none is to be."""
    due = [
        release.retry_at_ns
        for keys in models.values()
        for key in keys
        if (release := releases.get(key)) is not None
        and release.state is State.FAILED
        and key in desired
        and release.retry_at_ns != NEVER_NS
    ]
    return min(due, default=None)
