"""Reads a changed configuration, and takes no half of it for the whole.

Decides which failures are those of somebody who is still saving: then nobody is told of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from edged.config.load import Snapshot, load
from edged.config.source import main_file
from edged.errors import EdgedError
from edged.faults import fault
from edged.system.breath import long_work

_TRIES, _PAUSE_S = 20, 0.05
"""A configuration that is gone or empty is looked for again for a second before it is refused: no
one means that, and editors and git leave it so for as long as a busy machine lets them."""


async def reread(
    path: Path,
    documents: Path | None,
    changes: Callable[[], int],
    is_writing: Callable[[], bool],
) -> Snapshot | None:
    """The files; None where somebody writes them, whose last change has them read again.

    Args:
        path: the file or directory.
        documents: where those lie that came over MQTT.
        changes: how often something was seen to change.
        is_writing: whether a file is open for writing.

    Raises:
        EdgedError: what is wrong with them, where nobody has touched them since.
    """
    before = changes()
    for tries_left in range(_TRIES, -1, -1):
        try:
            snapshot = await asyncio.to_thread(long_work, load, path, documents)
        except EdgedError:
            if changes() != before or is_writing():
                return None
            if not tries_left or not _is_nothing(path):
                raise
        else:
            fault("reload.read")
            return None if is_writing() else snapshot
        await asyncio.sleep(_PAUSE_S)
    raise AssertionError("the last try returns or raises")


def _is_nothing(path: Path) -> bool:
    try:
        return not main_file(path).stat().st_size
    except OSError:
        return True
