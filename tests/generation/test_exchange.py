"""A release exchanged for itself: nobody is refused, and what is of no use leaves no trace."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from edged.serving.lifecycle import State
from edged.serving.release import ServedRelease
from tests.fakes import clock
from tests.fakes.site import Site
from tests.generation.test_reload import ONE, TWO, Box


async def until(condition: Callable[[], object]) -> None:
    """Threads of the lowest priority take their time on a busy machine."""
    await clock.until(condition, 60)


def on_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test that runs on an event loop of its own."""

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        asyncio.run(asyncio.wait_for(test(*arguments, **named), 60))

    return run


def fine(_release: ServedRelease) -> str:
    return ""


@contextlib.asynccontextmanager
async def booted(tmp_path: Path, body: str = ONE) -> AsyncIterator[Box]:
    site = Site(tmp_path).write(body)
    site.bundle("m", 1)
    site.bundle("m", 2)
    box = Box(site)
    try:
        await box.reloader.boot()
        yield box
    finally:
        await box.close()


def digest(box: Box, release: int = 1) -> str:
    [item] = [i for i in box.manager.wanted() if i.stored.manifest.release == release]
    return item.digest


@pytest.mark.parametrize("body", [ONE, TWO])
@on_loop
async def test_under_load_nobody_is_refused_and_the_old_session_is_gone(tmp_path, body):
    async with booted(tmp_path, body) as box:
        serving = box.dataplane.table.routes["m"].default_release()
        is_over, failed = False, []

        async def load() -> int:
            count = 0
            while not is_over:
                answer = await box.ask()
                failed.extend([answer.error] if answer.error else [])
                count += 1
            return count

        asking = [asyncio.ensure_future(load()) for _ in range(3)]
        loads, there = box.loads, box.held()
        assert serving is not None
        why = await box.reloader.exchange("m", serving.key.digest, fine)
        assert why == ""
        fresh = box.dataplane.table.routes["m"].default_release()
        assert fresh is not serving
        await until(lambda: box.held() == there)
        assert (await box.ask()).error is None
        is_over = True
        assert sum(await asyncio.gather(*asking)) > 0
        assert failed == []
        assert box.loads == loads + 1
        assert serving.state is State.UNLOADED


@on_loop
async def test_requests_go_to_the_old_one_while_the_new_one_loads(tmp_path):
    async with booted(tmp_path) as box:
        box.gate = threading.Event()
        exchange = asyncio.ensure_future(box.reloader.exchange("m", digest(box), fine))
        await until(lambda: len(box.held()) == 2)
        assert await box.factor() == 2.0
        box.gate.set()
        assert await exchange == ""
        assert await box.factor() == 2.0


@on_loop
async def test_one_that_is_of_no_use_is_let_go_and_the_old_one_serves_on(tmp_path):
    async with booted(tmp_path) as box:
        serving = box.dataplane.table.routes["m"].default_release()
        why = await box.reloader.exchange("m", digest(box), lambda one: f"{one.runtime} is slow")
        assert why == "onnxruntime is slow"
        assert box.dataplane.table.routes["m"].default_release() is serving
        await until(lambda: box.held() == [("m", 1, "ready")])
        assert await box.factor() == 2.0


@on_loop
async def test_one_that_does_not_load_says_why(tmp_path, monkeypatch):
    async with booted(tmp_path) as box:

        def broken(*_: object) -> None:
            raise RuntimeError("no room")

        monkeypatch.setattr(box, "_create_runtime", broken)
        box.manager.loader._create_runtime = broken  # type: ignore[assignment]
        why = await box.reloader.exchange("m", digest(box), fine)
        assert "RuntimeError" in why
        await until(lambda: box.held() == [("m", 1, "ready")])
        assert await box.factor() == 2.0
        assert box.degraded == {}


@on_loop
async def test_what_is_not_asked_for_any_more_is_left_alone(tmp_path):
    async with booted(tmp_path) as box:
        loads = box.loads
        assert "not asked for" in await box.reloader.exchange("m", "0" * 64, fine)
        assert "not asked for" in await box.reloader.exchange("other", digest(box), fine)
        assert box.loads == loads


@on_loop
async def test_a_later_reload_keeps_what_was_exchanged(tmp_path):
    async with booted(tmp_path) as box:
        first = digest(box)
        assert await box.reloader.exchange("m", first, fine) == ""
        assert await box.reloader.exchange("m", first, fine) == ""
        loads = box.loads
        box.site.write(TWO)
        assert await box.reloader.reload()
        assert box.loads == loads + 1, "the new release alone"
        assert await box.factor() == 3.0


@on_loop
async def test_a_reload_that_comes_meanwhile_waits(tmp_path):
    async with booted(tmp_path) as box:
        box.gate = threading.Event()
        exchange = asyncio.ensure_future(box.reloader.exchange("m", digest(box), fine))
        await until(lambda: len(box.held()) == 2)
        box.site.write(TWO)
        box.reloader.request()
        box.gate.set()
        assert await exchange == ""
        await until(lambda: box.generation == 2)
        assert await box.factor() == 3.0
