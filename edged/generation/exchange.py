"""One release for itself: loaded again beside the one that serves, and exchanged for it.

For what a release does not decide by its bytes or its configuration: an engine that is ready now,
a device that is back. Nothing is refused meanwhile: requests go to the old one until the table is
swapped between two turns of the event loop, and it finishes what it has.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from edged.config.load import Snapshot
from edged.config.problems import ConfigProblemsError
from edged.config.schema import Config
from edged.generation.asked import Asked, let_go, look_at
from edged.generation.candidate import Candidate
from edged.generation.fallback import Fallbacks
from edged.generation.followed import followed_paths
from edged.generation.house import House
from edged.generation.table import build_table
from edged.serving.lifecycle import State
from edged.serving.manager import Desired
from edged.serving.release import ServedRelease
from edged.system.breath import long_work

log = logging.getLogger("edged.reload")


class Exchanges:
    """What configurations and exchanges both work on; only one of them does at a time.

    Args:
        house: the long-lived parts.
        snapshot: the configuration to boot with.
    """

    def __init__(self, house: House, snapshot: Snapshot) -> None:
        self._house = house
        self._candidate = Candidate(snapshot, {})
        self._followed: tuple[Snapshot, list[Path]] | None = None
        self._left: list[Candidate] = []
        self._fallbacks = Fallbacks(house.manager, house.repository)
        self._lock = asyncio.Lock()

    @property
    def config(self) -> Config:
        """The configuration in effect."""
        return self._candidate.snapshot.config

    @property
    def candidate(self) -> Candidate:
        """The configuration in effect, with the releases that it asks for."""
        return self._candidate

    def followed(self) -> list[Path]:
        """What the configuration in effect names, as absolute paths or patterns of bundles.

        A change of one of them is a change.
        """
        snapshot = self._candidate.snapshot
        if self._followed is None or self._followed[0] is not snapshot:
            self._followed = snapshot, followed_paths(snapshot, self._house.repository.state_dir)
        return self._followed[1]

    async def exchange(
        self, model: str, digest: str, problem: Callable[[ServedRelease], str]
    ) -> str:
        """Load a release again, and let it serve in the place of itself.

        Args:
            model: its model.
            digest: of its bundle.
            problem: looks at the one that was loaded; what it says is why the old one serves on.

        Returns:
            Why it was not exchanged; empty when it was, or is asleep and will be loaded anew.
        """
        async with self._lock:
            items = self._candidate.releases.get(model, ())
            old = next((item for item in items if item.digest == digest), None)
            if old is None:
                return "the release is not asked for any more"
            manager = self._house.manager
            if manager.get(old.key).state is State.ASLEEP:
                return ""
            new = replace(old, edition=old.edition + 1)
            before = manager.wanted()
            others = [item for item in before if item.key != old.key]
            manager.want([*others, new], leaving=[old])
            why = await self._loaded(new, problem)
            if why:
                manager.want(before)
                return why
            self._swap_in(model, old, new)
            manager.want([*others, new])
            return ""

    async def _loaded(self, new: Desired, problem: Callable[[ServedRelease], str]) -> str:
        """Wait for a load; why it is of no use, empty when it is."""
        manager = self._house.manager
        await manager.settled([new.key])
        release = manager.get(new.key)
        if release.state is State.READY:
            return problem(release)
        if release.state is State.ASLEEP:
            return "there is no memory for it beside the one that serves (models.NAME.memory.swap)"
        return release.reason

    def _swap_in(self, model: str, old: Desired, new: Desired) -> None:
        house, releases = self._house, self._candidate.releases
        items = tuple(new if item is old else item for item in releases[model])
        self._candidate = replace(self._candidate, releases={**releases, model: items})
        number = house.dataplane.table.generation
        serving = self._fallbacks.serving
        house.dataplane.swap(build_table(self._candidate, house.manager, number, serving))
        log.info('model "%s": a newly loaded session took over', model)

    async def _asked(self, snapshot: Snapshot) -> Asked:
        """What a configuration asks for; raises ConfigProblemsError where it cannot be had."""
        before, followed, repository = self._candidate, self.followed(), self._house.repository
        asked = await asyncio.to_thread(long_work, look_at, snapshot, before, followed, repository)
        if asked.candidate.problems:
            raise ConfigProblemsError(asked.candidate.problems)
        return asked

    def _take(self, candidate: Candidate, paths: list[Path]) -> None:
        """It is in effect; what it takes the place of is kept until ``_let_go``, or the next."""
        self._left[:] = [self._candidate]
        self._candidate, self._followed = candidate, (candidate.snapshot, paths)

    async def _let_go(self) -> None:
        """Forget what was in effect before."""
        if self._left:
            await asyncio.to_thread(long_work, let_go, self._left)

    def _carried(self, candidate: Candidate) -> Candidate:
        """A new configuration with the releases that were exchanged, where it still wants them."""
        releases = dict(candidate.releases)
        for one in self._candidate.desired():
            name = one.key.model
            if one.edition and name in releases:
                releases[name] = tuple(
                    replace(item, edition=one.edition) if item.digest == one.digest else item
                    for item in releases[name]
                )
        return replace(candidate, releases=releases)
