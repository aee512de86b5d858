"""How long a change lets others in between two pieces of its work on the event loop."""

from __future__ import annotations

import asyncio

from edged.system.breath import give_way

TURNS = 3
"""Of the loop, after each piece: whoever asked meanwhile is heard in the first and answered in the
second, behind what waited for that one. With one turn they would wait for the next piece, too."""


async def let_in() -> None:
    """Between two pieces: let whoever asked meanwhile have an answer first."""
    for _ in range(TURNS):
        give_way()
        await asyncio.sleep(0)
