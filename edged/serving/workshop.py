"""What pipelines and models share: the loop's turn, threads for slow steps, caches, counts.

Threads are made when the first slow step runs. Counts are found here because pipelines are made
anew with every generation of the configuration, beside those that serve.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from weakref import WeakValueDictionary

from edged.serving.caching.caches import Caches
from edged.serving.scheduling.turn import Turn
from edged.system.cores import spread, usable

log = logging.getLogger("edged.serving")

_MOST_THREADS = 4
"""Steps are NumPy on pictures, which hold the interpreter lock half of the time."""


class Errand:
    """A job that is under way.

    Args:
        do: does it, once.
    """

    __slots__ = ("_do",)

    def __init__(self, do: Callable[[], None]) -> None:
        self._do = [do]

    def __call__(self) -> None:
        """Do it, unless it was done or withdrawn."""
        do = self._taken()
        if do is not None:
            do()

    def withdraw(self) -> bool:
        """Whether it has not begun; then it never does, and nobody is told of it."""
        return self._taken() is not None

    def _taken(self) -> Callable[[], None] | None:
        try:
            return self._do.pop()  # the loop and a thread may both want it; one of them gets it
        except IndexError:
            return None


class Workshop:
    """Made once in a process; used from the event loop only.

    Args:
        turn: the loop's, shared with all releases.
    """

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self.tallies: WeakValueDictionary[tuple[str, str], Any] = WeakValueDictionary()
        """By a pipeline's name and definition, what it has done; as long as one is there."""
        self.caches = Caches(self.do)
        self._threads: dict[bool, ThreadPoolExecutor] = {}
        self._running: set[Errand] = set()

    def do(
        self, job: Callable[[], Any], on_done: Callable[[Any], None], *, is_foreign: bool = False
    ) -> Errand:
        """Do a job on a thread, and hand what it returns to ``on_done`` on the loop.

        Args:
            job: must not raise.
            on_done: called once, unless the loop ends before or the job is withdrawn.
            is_foreign: an installed package's; it may never return, so it has other threads.
        """
        loop = asyncio.get_running_loop()
        if is_foreign not in self._threads:
            count = min(len(usable()), _MOST_THREADS)
            name = "edged-own-step" if is_foreign else "edged-step"
            self._threads[is_foreign] = ThreadPoolExecutor(count, name, initializer=spread)

        def work() -> None:
            self._running.add(errand)
            result = job()
            self._running.discard(errand)
            try:
                loop.call_soon_threadsafe(on_done, result)
            except RuntimeError:
                log.debug("a step ended after the loop")

        errand = Errand(work)
        self._threads[is_foreign].submit(errand)
        return errand

    @property
    def is_busy(self) -> bool:
        """Whether a job runs; one of a package's may never end."""
        return bool(self._running)

    def close(self) -> None:
        """Start nothing more; what runs ends by itself."""
        for threads in self._threads.values():
            threads.shutdown(wait=False, cancel_futures=True)
