"""Time that a test moves by hand, and a way to run a test on an event loop."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

TEST_LIMIT_S = 20.0


def on_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Make an ``async def`` test one that pytest runs: a fresh loop each, with a limit."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), TEST_LIMIT_S))

    return run


async def turns(count: int = 5) -> None:
    """Let the loop handle what is ready, and what that makes ready."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition: Callable[[], object], limit_s: float = 10.0) -> None:
    """Let the loop turn until ``condition`` holds; for work done by threads and processes."""
    give_up = time.perf_counter() + limit_s
    while not condition():
        assert time.perf_counter() < give_up, "what was waited for did not happen"
        await asyncio.sleep(0)
        # Not asyncio's sleep: the loop's own clock may stand still (Clock).
        time.sleep(0.0005)  # noqa: ASYNC251


class Clock:
    """The monotonic clock of the daemon and of the running loop; stands still unless moved."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ns = time.monotonic_ns()
        monkeypatch.setattr(time, "monotonic_ns", lambda: self.now_ns)
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: self.now_ns / 1e9)

    async def forward(self, ns: int) -> None:
        """Move on, and let the timers that are due run."""
        self.now_ns += ns
        await turns()
