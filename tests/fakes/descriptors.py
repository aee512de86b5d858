"""How many files this process has open."""

from __future__ import annotations

import gc
from pathlib import Path


def descriptors() -> int:
    """How many there are, but for what only awaits the collector.

    What another test left may be closed at any time: compare with ``<=``.
    """
    gc.collect()
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
