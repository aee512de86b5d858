"""Waiting awake for a client that is alone to ask again; if it is worth it says ``patience``."""

from __future__ import annotations

import os
import time
from typing import Final

AWAKE_NS: Final = 500_000
"""As long as inline runs of one turn may take: so much one client may delay the others."""


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
