"""Who waits until releases are ready, or have failed, or are wanted no longer.

Decides nothing: what is settled, the manager says, and when to ask it again. Used from the event
loop only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from edged.serving.lifecycle import ReleaseKey


class Settling:
    """See above.

    Args:
        is_settled: whether nothing more is to be waited for of a release.
    """

    def __init__(self, is_settled: Callable[[ReleaseKey], bool]) -> None:
        self._is_settled = is_settled
        self._waiters: list[tuple[frozenset[ReleaseKey], asyncio.Future[None]]] = []

    async def wait(self, keys: Iterable[ReleaseKey]) -> None:
        """Wait until all of these are settled at once."""
        waiting = frozenset(keys)
        if all(map(self._is_settled, waiting)):
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((waiting, future))
        await future

    def wake(self) -> None:
        """Something has changed: let go those whose releases are settled."""
        still: list[tuple[frozenset[ReleaseKey], asyncio.Future[None]]] = []
        for keys, future in self._waiters:
            if future.done():
                continue  # whoever waited was cancelled
            if all(map(self._is_settled, keys)):
                future.set_result(None)
            else:
                still.append((keys, future))
        self._waiters = still
