"""A step that waits for a thread, to its request's deadline."""

from __future__ import annotations

import time

from edged.errors import DeadlineExceededError
from edged.pipelines.awaited import Awaited
from edged.serving.workshop import Errand
from tests.fakes.clock import on_loop, turns, until


@on_loop
async def test_told_at_the_deadline_unless_it_began_or_is_over():
    now_ns, told, done = time.monotonic_ns(), [], []
    waits, begun, over = (Errand(lambda: done.append(1)) for _ in range(3))
    begun()
    Awaited(waits, told.append, now_ns)
    Awaited(begun, told.append, now_ns)
    Awaited(over, told.append, now_ns).cancel()
    await until(lambda: told)
    await turns()
    assert [type(one) for one in told] == [DeadlineExceededError]
    waits()
    assert done == [1]


@on_loop
async def test_withdrawn_it_is_told_nothing():
    told = []
    waits, begun = Errand(lambda: None), Errand(lambda: None)
    begun()
    assert Awaited(waits, told.append, time.monotonic_ns() + 10**12).withdraw()
    assert not Awaited(begun, told.append, None).withdraw()
    await turns()
    assert not told
