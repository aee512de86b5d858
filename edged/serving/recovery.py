"""Keeps every model on the runtime that was asked for, and says aloud where it cannot.

What a load came to is ``preference.py``'s to say. Used from the event loop only.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable

import msgspec

from edged.config.preference import may_serve
from edged.errors import EdgedError, LoadError
from edged.loading import Loaded, Stored
from edged.serving.preference import denied, stand_in
from edged.serving.release import ServedRelease
from edged.serving.trial import LoadOrder
from edged.telemetry.health import Health

_KEY = "runtime."
"""Of what is told to ``Health``, before a model's name."""


class Recovery:
    """See above.

    Args:
        releases: every release there is.
    """

    def __init__(self, releases: Callable[[], Iterable[ServedRelease]]) -> None:
        self._releases = releases
        self.health: Health | None = None
        """Who is told; the house sets it."""
        self.stood_in: Counter[tuple[str, int, str, str]] = Counter()
        """Loads that ended on another runtime than the first: model, release, that one, the other.
        A repeated load of what stood in already is none."""

    def order(self, release: ServedRelease, stored: Stored) -> LoadOrder:
        """How a release is to be loaded now."""
        config = release.config
        runtimes = may_serve(config.runtime, config.fallback)
        return LoadOrder(
            release.key.digest, stored, msgspec.structs.replace(config, runtime=runtimes)
        )

    def ready(self, release: ServedRelease, loaded: Loaded) -> None:
        """A load went well; not told to anybody before ``review``."""
        before = release.stand_in
        after = stand_in(loaded, before, time.time(), time.monotonic_ns())
        release.stand_in = after
        if after is not None and (before is None or before.since_ns != after.since_ns):
            key = release.key.model, release.number, after.wanted, after.serves
            self.stood_in[key] += 1

    def explain(self, release: ServedRelease, error: EdgedError) -> str:
        """Why a load failed, and what to do."""
        config = release.config
        if config.fallback == "deny" and isinstance(error, LoadError):
            if isinstance(config.runtime, str):
                return f"{error.message}; no other runtime may stand in (fallback: deny)"
            if len(config.runtime) > 1:
                return denied(error.message, release.key.model, config.runtime)
        return error.message

    def review(self) -> None:
        """Bring the list of degradations up to date."""
        if self.health is None:
            return
        words: dict[str, str] = {}
        for release in self._releases():
            found = release.stand_in
            if found is not None and release.answers:
                line = (
                    f"release {release.number} serves on {found.serves} instead of "
                    f"{found.wanted}: {found.why}"
                )
                key = _KEY + release.key.model
                words[key] = f"{words[key]}; {line}" if key in words else line
        for key, line in words.items():
            self.health.degrade(key, line)
        for key in self.health.degradations():
            if key.startswith(_KEY) and key not in words:
                self.health.restore(key)
