"""Waiting awake for a client that is alone to ask again; if it is worth it says ``patience``."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Final

from edged.system.patience import Patience

AWAKE_NS: Final = 500_000
"""As long as inline runs of one turn may take: so much one client may delay the others."""
_SHARED_NS: Final = 20_000
"""A core that takes longer to come back to whoever offers it to others had some."""


def read_awake(descriptor: int, buffer: memoryview, wait_ns: int) -> int:
    """Read what comes within a moment, without going to sleep.

    Args:
        descriptor: of a socket that does not block.
        buffer: is filled from its beginning.
        wait_ns: how long.

    Returns:
        How many bytes came; 0 when none did, or the loop has to see to the connection.
    """
    until_ns = time.monotonic_ns() + wait_ns
    while time.monotonic_ns() < until_ns:
        try:
            return os.readv(descriptor, (buffer,))
        except BlockingIOError:
            os.sched_yield()  # the client may be on this very core
        except OSError:
            break
    return 0


class Vigil:
    """Staying awake for longer than the loop may be held up: over its turns, which serve others.

    A core that sleeps is woken late and finds its caches cold; a turn costs some microseconds.
    Where others want the core it does not sleep anyway: nothing is gained there, and it ends.
    """

    def __init__(self) -> None:
        self._patience: Patience | None = None
        self._until_ns = 0
        self._is_called = False

    def begin(self, patience: Patience, wait_ns: int) -> None:
        """Stay awake until ``end``, but no longer than that.

        Args:
            patience: that said it is worth it; it is told how it ended.
            wait_ns: how long.
        """
        self._patience = patience
        self._until_ns = time.monotonic_ns() + wait_ns
        if not self._is_called:
            self._go_on()

    def end(self, *, in_time: bool) -> None:
        """What was waited for has come, or is waited for no more; without a vigil, nothing."""
        patience, self._patience = self._patience, None
        if patience is not None:
            patience.ended(in_time=in_time)

    def _go_on(self) -> None:
        self._is_called = True
        asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._is_called = False
        if self._patience is None:
            return
        began_ns = time.monotonic_ns()
        if began_ns < self._until_ns:
            os.sched_yield()  # as above
            if time.monotonic_ns() - began_ns < _SHARED_NS:
                self._go_on()
                return
        self.end(in_time=False)
