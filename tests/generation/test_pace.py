"""Others have their turns; that those are enough, ``test_turns.py`` shows with a real request."""

from __future__ import annotations

import asyncio

from edged.generation.pace import TURNS, let_in


def test_so_many_turns() -> None:
    had = 0

    def count() -> None:
        nonlocal had
        had += 1
        asyncio.get_running_loop().call_soon(count)

    async def work() -> None:
        asyncio.get_running_loop().call_soon(count)
        await let_in()
        assert had == TURNS

    asyncio.run(work())
