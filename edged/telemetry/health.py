"""What is not as it should be, by name and with its reason."""

from __future__ import annotations

import logging
from collections.abc import Callable

log = logging.getLogger("edged.health")


class Health:
    """The list of degradations; used from the event loop only.

    A degradation has a key such as ``config`` or ``model.gate`` and a sentence for people. It is
    logged when it comes, changes and goes, never again and again.
    """

    def __init__(self) -> None:
        self._degradations: dict[str, str] = {}
        self.on_change: Callable[[], None] | None = None

    def degrade(self, key: str, reason: str) -> None:
        """Note that something is not as it should be, and why."""
        if self._degradations.get(key) == reason:
            return
        self._degradations[key] = reason
        log.warning("degraded: %s: %s", key, reason)
        self._changed()

    def restore(self, key: str) -> None:
        """Note that it is well again."""
        if self._degradations.pop(key, None) is not None:
            log.info("restored: %s", key)
            self._changed()

    def degradations(self) -> dict[str, str]:
        """A copy: key to reason."""
        return dict(self._degradations)

    def _changed(self) -> None:
        if self.on_change is not None:
            self.on_change()
