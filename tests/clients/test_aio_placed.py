"""Requests of the asyncio client by passed memory, against the real server, on either loop."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edged.aio import Client
from edged.clients import aio_placed
from edged.errors import DeadlineExceededError, LayoutChangedError, QueueFullError, RunError
from edged.messages import LentInputs
from edged.protocol.prepared import encode_forget
from tests.fakes.house import House, Run, eventually, houses

WIDE = 1 << 15
LAYOUT = ((None, WIDE), "float32")
X = np.arange(WIDE, dtype=np.float32).reshape(1, WIDE)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    yield from houses("uvloop", tmp_path / "s")


def is_lent(house: House) -> list[bool]:
    """Of each request that came, whether it came by memory."""
    return [type(request.inputs) is LentInputs for request in house.door.requests]


def mapped() -> int:
    gc.collect()
    return Path("/proc/self/maps").read_text().count("memfd:edged ")


async def gone(house: House) -> None:
    await asyncio.to_thread(eventually, lambda: not house.server.connections)


def test_is_written_and_read_in_place(house: House, run: Run):
    house.start()

    async def scene(client: Client) -> None:
        call = await client.prepare("m", x=LAYOUT)
        async with await call.place(2) as memory:
            for number in range(1, 5):
                memory.inputs["x"][:] = number
                result = await memory.run()
                assert result["x"] is memory.outputs["x"]
                assert (result["x"] == number).all()

    before = mapped()
    run(scene)
    assert is_lent(house) == [True] * 4
    house.door.requests.clear()
    eventually(lambda: not house.server.lent and mapped() <= before)


def test_large_requests_go_by_themselves(house: House, run: Run):
    house.start()

    async def scene(client: Client) -> None:
        call = await client.prepare("m", x=LAYOUT)
        for number in range(4):
            result = await call(X * number)
            np.testing.assert_array_equal(result["x"], X * number)
        for number in range(4):
            result = await client.infer("m", x=X * number)
            np.testing.assert_array_equal(result["x"], X * number)
        await client.infer("m", x=X[:, :8])
        call.close()

    run(scene)
    assert is_lent(house) == [False, True, True, True] * 2 + [False]


@pytest.mark.parametrize("regions", [0, 1])
def test_where_there_is_no_room(house: House, run: Run, regions: int):
    house.start(max_regions=regions)

    async def scene(client: Client) -> None:
        calls = [await client.prepare("m", x=LAYOUT) for _ in range(3)]
        if not regions:
            with pytest.raises(QueueFullError, match=r"limits\.max_regions"):
                await calls[0].place(1)
        for number in range(9):
            result = await calls[number % 3](X * number)
            np.testing.assert_array_equal(result["x"], X * number)

    run(scene)
    assert sum(is_lent(house)) == 2 * regions


def test_many_at_once(house: House, run: Run):
    """Also while frames of others, larger than the socket takes, are on their way."""
    house.start()

    async def scene(client: Client) -> None:
        call = await client.prepare("m", x=LAYOUT)

        async def work(seed: int) -> None:
            for number in range(10):
                x = X + np.float32(seed * 100 + number)
                if number % 3 == 0:
                    pending = await call.submit(x=x)
                    result = await pending.result()
                else:
                    result = await (call(x) if number % 3 == 1 else client.infer("m", x=x))
                np.testing.assert_array_equal(result["x"], x)

        await asyncio.gather(*(work(seed) for seed in range(12)))

    run(scene)
    assert any(is_lent(house))


def test_on_another_connection(house: House, run: Run):
    house.start()

    async def scene(client: Client) -> None:
        call = await client.prepare("m", x=LAYOUT)
        memory = await call.place(1)
        memory.inputs["x"][:] = X
        for _ in range(3):
            for _ in range(2):
                np.testing.assert_array_equal((await call(X))["x"], X)
                np.testing.assert_array_equal((await memory.run())["x"], X)
            await client.close()
            await gone(house)
        memory.close()

    run(scene)
    assert is_lent(house).count(False) == 1


def test_memory_that_is_not_taken_again(house: House, run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(aio_placed, "LEND_AGAIN_S", (0.001,))
    house.start()

    async def scene(client: Client) -> None:
        for _ in range(3):
            await client.infer("m", x=X)
        files = list(house.server.lent)
        await client.close()
        await gone(house)
        house.call(house.server.lent.update, files)
        for _ in range(3):
            np.testing.assert_array_equal((await client.infer("m", x=X))["x"], X)

    run(scene)
    assert is_lent(house) == [False, True, True, False, True, True]


def test_a_handle_that_another_task_gave_up(house: House, run: Run):
    house.start()

    async def scene(client: Client) -> None:
        call = await client.prepare("m", x=LAYOUT)
        link, opened = await client.open_plan(call._plan, None)
        link.write(encode_forget(opened.handle))
        memory = await call.place(1)
        memory.inputs["x"][:] = X
        np.testing.assert_array_equal((await memory.run())["x"], X)
        memory.close()

    run(scene)
    assert house.door.prepared == 2


def test_errors_are_the_servers(house: House, run: Run):
    house.start()

    async def scene(client: Client) -> None:
        call = await client.prepare("m", x=LAYOUT)
        await call(X)
        for error in (RunError("it failed"), QueueFullError("full")):
            house.door.error = error
            with pytest.raises(type(error), match=error.message):
                await call(X)
            np.testing.assert_array_equal((await call(X))["x"], X)
        house.door.error = LayoutChangedError("another release")
        np.testing.assert_array_equal((await call(X))["x"], X)
        assert len(house.server.lent) == 1

    run(scene)
    assert house.door.prepared == 2


def test_memory_that_may_still_be_written_to_is_not_used_again(house: House, run: Run):
    house.start()

    async def scene(client: Client) -> None:
        call = await client.prepare("m", x=LAYOUT)
        await call(X)
        await call(X)
        house.door.is_holding = True
        task = asyncio.ensure_future(call(X))
        await asyncio.to_thread(eventually, lambda: house.door.held)
        held = house.door.held[0][0].inputs["x"]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(eventually, lambda: house.door.cancelled)
        house.door.is_holding = False
        np.testing.assert_array_equal((await call(X * 2))["x"], X * 2)
        np.testing.assert_array_equal(held, X)

    run(scene)


def test_who_gives_up_while_memory_is_lent_stops_nobody(house: House, run: Run):
    house.start()

    async def scene(client: Client) -> None:
        call = await client.prepare("m", x=LAYOUT)
        for steps in range(0, 60, 2):
            task = asyncio.ensure_future(call.place(1))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.result().close()
            del task
            house.door.requests.clear()
            memory = await call.place(1)
            await memory.run()
            memory.close()

    run(scene)


def test_a_timeout(house: House, run: Run):
    house.start()

    async def scene(client: Client) -> None:
        memory = await (await client.prepare("m", x=LAYOUT)).place(1)
        house.door.is_holding = True
        pending, wait_us = client.make_pending("m", 0.01)
        assert wait_us == 10_000
        pending.until = 0.0
        memory._bound._client.make_pending = lambda *_: (pending, wait_us)  # type: ignore[method-assign]
        with pytest.raises(DeadlineExceededError):
            await memory.run()
        assert not memory._bound.is_idle
        memory.close()

    run(scene)
