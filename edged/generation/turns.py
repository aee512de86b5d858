"""What a change does to hundreds of models on the event loop, in several turns of it.

Whoever asks a model meanwhile waits for one piece of it, a fraction of a millisecond.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TypeVar

from edged.generation.candidate import Candidate
from edged.generation.pace import TURNS, let_in
from edged.generation.table import build_route, table_of
from edged.serving.dataplane import ServingTable
from edged.serving.manager import Desired, Manager
from edged.serving.router import Route

T = TypeVar("T")

_PIECE = 32
"""Models; each takes some microseconds."""


async def in_turns(items: Sequence[T]) -> AsyncIterator[Sequence[T]]:
    """So many at a time, and after each the loop does what else there is to do."""
    for start in range(0, len(items), _PIECE):
        yield items[start : start + _PIECE]
        await let_in()


async def follow_in_turns(
    manager: Manager, desired: Sequence[Desired], *, is_given_anew: bool
) -> None:
    """Let releases follow their models' sections; see ``Manager.follow``."""
    async for items in in_turns(desired):
        manager.follow(items, is_given_anew=is_given_anew)


async def build_in_turns(
    candidate: Candidate,
    manager: Manager,
    generation: int,
    fallbacks: Mapping[str, Desired],
) -> ServingTable:
    """See ``build_table``."""
    routes: dict[str, Route] = {}
    async for names in in_turns(list(candidate.snapshot.config.models)):
        for name in names:
            routes[name] = build_route(candidate, name, manager, fallbacks.get(name))
    return table_of(candidate, manager, generation, routes)


class OneByOne:
    """What is to be done after a change, each piece in a turn of the loop of its own."""

    def __init__(self) -> None:
        self._handle: asyncio.Handle | None = None

    def do(self, *pieces: Callable[[], object]) -> None:
        """These, soon; what is left of those before is not done any more."""
        self.stop()
        if pieces:
            self._wait(TURNS, pieces)

    def stop(self) -> None:
        """Leave out what is left."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _wait(self, turns: int, pieces: tuple[Callable[[], object], ...]) -> None:
        loop = asyncio.get_running_loop()
        if turns > 1:
            self._handle = loop.call_soon(self._wait, turns - 1, pieces)
        else:
            self._handle = loop.call_soon(self._next, pieces)

    def _next(self, pieces: tuple[Callable[[], object], ...]) -> None:
        first, *others = pieces
        # Before the work, which may raise: the others are to be done all the same. It may also
        # ask for other work, which is then all there is to do.
        self.do(*others)
        first()
