"""A bound on how long something that waits for a peer may take as a whole.

A socket's own timeout starts anew with every byte: who sends one now and then holds us for ever.
Works by the alarm of the process, so in its main thread alone: who fetches is a process of its own.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

from edged.errors import SourceError


@contextlib.contextmanager
def deadline(seconds: float, what: str) -> Iterator[None]:
    """End what is inside after so long, wherever it waits.

    An alarm of somebody around us goes on afterwards, less the time that passed.

    Args:
        seconds: at least a little.
        what: for the message.

    Raises:
        SourceError: it took longer.
    """

    def ring(_number: int, _frame: FrameType | None) -> NoReturn:
        raise SourceError(f"{what}: not within {seconds:g} s")

    started = time.monotonic()
    handler = signal.signal(signal.SIGALRM, ring)
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if left:
            passed = time.monotonic() - started
            signal.setitimer(signal.ITIMER_REAL, max(left - passed, 0.001), interval)
