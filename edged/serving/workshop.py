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
        self._threads: ThreadPoolExecutor | None = None

    def do(self, job: Callable[[], Any], on_done: Callable[[Any], None]) -> None:
        """Do a job on a thread, and hand what it returns to ``on_done`` on the loop.

        Args:
            job: must not raise.
            on_done: called once, unless the loop ends before.
        """
        loop = asyncio.get_running_loop()
        if self._threads is None:
            count = min(len(usable()), _MOST_THREADS)
            self._threads = ThreadPoolExecutor(count, "edged-step", initializer=spread)

        def work() -> None:
            result = job()
            try:
                loop.call_soon_threadsafe(on_done, result)
            except RuntimeError:
                log.debug("a step ended after the loop")

        self._threads.submit(work)

    def close(self) -> None:
        """Start nothing more; what runs ends by itself."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
