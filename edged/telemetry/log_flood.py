"""A cap on how often one kind of line is logged: what peers can cause must not fill the journal.

Lines are of a kind when the same statement of the same logger logs them. After a burst, a kind may
log a line a second; what is left out is counted, and said with the next line of that kind.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

BURST = 200
"""Of a kind: a box of a hundred models whose bundles are all broken still names each."""
EVERY_S = 1.0
"""For each line beyond the burst; a kind that was quiet for a while may burst anew."""
MOST_KINDS = 1000
"""That are remembered; statements of ours are fewer."""


@dataclass(slots=True)
class _Kind:
    left: float
    at: float
    suppressed: int = 0


class FloodFilter(logging.Filter):
    """Lets a record pass, or leaves it out; called under the handler's lock.

    Records below WARNING always pass: what peers do is logged at debug, and who asks for that wants
    all of it.

    Args:
        clock: seconds.
        burst: lines of a kind at once.
        every_s: for each one more.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        burst: int = BURST,
        every_s: float = EVERY_S,
    ) -> None:
        super().__init__()
        self._clock, self._burst, self._every_s = clock, burst, every_s
        self._kinds: dict[tuple[str, int, object], _Kind] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is logged; says in it how many like it were not."""
        if record.levelno < logging.WARNING:
            return True
        now = self._clock()
        key = (record.name, record.levelno, record.msg)
        kind = self._kinds.get(key)
        if kind is None:
            if len(self._kinds) >= MOST_KINDS:
                self._forget(now)
            self._kinds[key] = _Kind(self._burst - 1, now)
            return True
        kind.left = min(self._burst, kind.left + (now - kind.at) / self._every_s)
        kind.at = now
        if kind.left < 1:
            kind.suppressed += 1
            return False
        kind.left -= 1
        if kind.suppressed:
            record.msg = f"{record.getMessage()} ({kind.suppressed} more like it were left out)"
            record.args = None
            kind.suppressed = 0
        return True

    def _forget(self, now: float) -> None:
        """Those that may burst anew anyway; all, when none is."""
        full_s = self._burst * self._every_s
        rested = [key for key, kind in self._kinds.items() if now - kind.at >= full_s]
        for key in rested or list(self._kinds):
            del self._kinds[key]
