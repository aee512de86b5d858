"""What bindings remember over the life of the process: opened when one needs the disk, closed once.

Not a part of the broker's session: that is ended and begun anew by a changed password. Nor of a
line: a binding that goes another way takes along what it remembers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edged.config.binding import BindingConfig
from edged.telemetry.health import Health
from edged.transports.bindings.keyed_states import KeyedStates

if TYPE_CHECKING:
    from edged.outbox.state_keeper import StateKeeper

log = logging.getLogger("edged.mqtt")

FOLDER = "states"
"""In the state directory."""
_NAME = "mqtt.states"


class Keeping:
    """See above.

    Args:
        state_dir: the states are a folder in it.
        health: told when the disk does not keep them.
    """

    def __init__(self, state_dir: Path, health: Health) -> None:
        self.states = KeyedStates()
        self.is_usable = True
        """As ``follow`` said last."""
        self._folder = state_dir / FOLDER
        self._health = health
        self._keeper: StateKeeper | None = None

    async def follow(self, bindings: Sequence[BindingConfig]) -> bool:
        """Remember for these bindings, and forget what others remembered.

        Returns:
            Whether they can be served; not when what an earlier process left cannot be read.
        """
        shelves = dict(_shelves(bindings))
        if self._keeper is None and ("disk" in shelves.values() or self._folder.is_dir()):
            try:
                await self._open()
            except OSError as exc:
                text = f"{self._folder}: what bindings remember cannot be read: {exc.strerror}"
                log.error("%s", text)
                self._health.degrade(_NAME, text)
                self.is_usable = False
                return False
        self.states.only(shelves)
        self.is_usable = True
        return True

    async def close(self) -> None:
        """Put on disk what waits; call it when nothing more is put in."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            await asyncio.to_thread(keeper.stop)
        self._health.restore(_NAME)

    async def _open(self) -> None:
        from edged.outbox.state_keeper import StateKeeper  # noqa: PLC0415 - only if used

        post = asyncio.get_running_loop().call_soon_threadsafe
        keeper = StateKeeper.in_folder(self._folder, post)
        restored = await asyncio.to_thread(keeper.open)
        keeper.on_change = self._review
        keeper.start()
        self._keeper = keeper
        self.states.adopt(keeper, restored)
        self._health.restore(_NAME)

    def _review(self) -> None:
        problem = self._keeper.problem if self._keeper is not None else ""
        if problem:
            self._health.degrade(_NAME, problem)
        else:
            self._health.restore(_NAME)


def _shelves(bindings: Sequence[BindingConfig]) -> Iterator[tuple[str, str]]:
    """The names of the shelves that they have, and where each is kept."""
    for binding in bindings:
        if binding.window is not None:
            yield binding.name, binding.window.keep
        for index, part in enumerate(binding.join):
            yield f"{binding.name}/{index}", part.keep
