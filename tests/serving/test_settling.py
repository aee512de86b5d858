"""Waiting until releases are settled."""

from __future__ import annotations

import asyncio

from edged.serving.lifecycle import ReleaseKey
from edged.serving.settling import Settling
from tests.fakes.clock import on_loop, turns

ONE, TWO = ReleaseKey("one", "1" * 64, ""), ReleaseKey("two", "2" * 64, "")


@on_loop
async def test_only_all_at_once_let_whoever_waits_go() -> None:
    settled: set[ReleaseKey] = set()
    settling = Settling(settled.__contains__)
    waits = asyncio.ensure_future(settling.wait([ONE, TWO]))
    await turns()
    none: set[ReleaseKey] = set()
    for now, is_done in (({ONE}, False), ({TWO}, False), (none, False), ({ONE, TWO}, True)):
        settled.clear()
        settled.update(now)
        settling.wake()
        await turns()
        assert waits.done() is is_done
    await settling.wait([ONE])  # at once


@on_loop
async def test_one_who_gave_up_is_forgotten_and_the_others_are_woken() -> None:
    settled: set[ReleaseKey] = set()
    settling = Settling(settled.__contains__)
    gone, stays = (asyncio.ensure_future(settling.wait([ONE])) for _ in range(2))
    await turns()
    gone.cancel()
    await turns()
    settled.add(ONE)
    settling.wake()
    await stays
    assert gone.cancelled()
