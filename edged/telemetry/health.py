"""What is not as it should be, by name and with its reason."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

log = logging.getLogger("edged.health")


class Health:
    """The list of degradations; used from the event loop only.

    A degradation has a key such as ``config`` or ``model.gate`` and a sentence for people. It is
    logged when it comes, changes and goes, never again and again.
    """

    def __init__(self) -> None:
        self._degradations: dict[str, str] = {}
        self._since_ns: dict[str, int] = {}
        self.on_change: Callable[[], None] | None = None

    def degrade(self, key: str, reason: str) -> None:
        """Note that something is not as it should be, and why."""
        if self._degradations.get(key) == reason:
            return
        self._degradations[key] = reason
        self._since_ns.setdefault(key, time.monotonic_ns())
        log.warning("degraded: %s: %s", key, reason)
        self._changed()

    def restore(self, key: str) -> None:
        """Note that it is well again."""
        if self._degradations.pop(key, None) is not None:
            self._since_ns.pop(key)
            log.info("restored: %s", key)
            self._changed()

    def degradations(self) -> dict[str, str]:
        """A copy: key to reason."""
        return dict(self._degradations)

    def ages_ns(self, now_ns: int) -> dict[str, int]:
        """Key to how long it has been so, whatever its reason, by the monotonic clock."""
        return {key: now_ns - since_ns for key, since_ns in self._since_ns.items()}

    def _changed(self) -> None:
        if self.on_change is not None:
            self.on_change()
