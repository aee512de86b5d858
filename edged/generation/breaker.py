"""The crash-loop breaker: what the last run's end means for the releases that were new to it.

Decides who is on probation and for how long; what a standing means is ``store/probation.py``'s
decision. Without it a release that takes the daemon down would do so at every start.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from edged.config.schema import TrialConfig
from edged.serving.lifecycle import State
from edged.serving.release import ServedRelease
from edged.store.probation import Probation
from edged.store.repository import Repository
from edged.telemetry.crash import CrashMark, headline
from edged.telemetry.health import Health

log = logging.getLogger("edged.daemon")


class Breaker:
    """Of one daemon.

    Args:
        state_dir: where standings and the traceback of a crash lie.
        health: told of a crash.
        trial: the settings in effect, asked for when they are needed.
    """

    def __init__(self, state_dir: Path, health: Health, trial: Callable[[], TrialConfig]) -> None:
        self.probation = Probation(state_dir / "probation")
        self._mark = CrashMark(state_dir)
        self._health = health
        self._trial = trial
        self.crash = ""
        """The traceback that the last run left; empty when it did not die by its own doing."""

    def start(self, repository: Repository) -> None:
        """Look at how the last run ended, and let this one leave its traceback."""
        crash = self.crash = self._mark.take()
        if crash:
            log.error("the last run of the daemon died by its own doing:\n%s", crash)
            reason = f"the last run died: {headline(crash)} (crash.last.txt in the state directory)"
            self._health.degrade("crash", reason)
        self.probation.start(has_crashed=bool(crash), known=repository.digests())
        self._mark.arm()

    def stop(self) -> None:
        """The end is in good order: nobody is on probation for it."""
        self.probation.write_condemned()
        self._mark.disarm()

    def on_ready(self, release: ServedRelease) -> None:
        """Served for a while without harm, a release is off probation."""
        window_s = int(self._trial().window) / 1e9
        attempt = self.probation.attempt(release.key.digest)
        loop = asyncio.get_running_loop()
        loop.call_later(window_s, self._window_over, loop, release, attempt)

    def on_hopeless(self, release: ServedRelease, reason: str) -> None:
        """Leave out a release whose workers die one after another."""
        key = release.key
        self.probation.condemn(key.digest, key.model, release.number, reason)
        asyncio.get_running_loop().run_in_executor(None, self.probation.write_condemned)

    def is_quarantined(self, digest: str) -> bool:
        """Whether it is left out at present."""
        return self.probation.get(digest).quarantine is not None

    def _window_over(
        self, loop: asyncio.AbstractEventLoop, release: ServedRelease, attempt: int
    ) -> None:
        probation, is_there = self.probation, release.state in (State.READY, State.DRAINING)
        # One that was taken out before may not be blamed any more, and has proven nothing.
        act = probation.survived if is_there else probation.release_unharmed
        # On a thread: it waits for the disk.
        loop.run_in_executor(None, act, release.key.digest, attempt)
