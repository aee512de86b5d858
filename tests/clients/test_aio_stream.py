"""Several answers to one request through the asyncio client, on either loop."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edged.aio import Client
from edged.errors import DisconnectedError, QueueFullError
from tests.fakes.clock import until
from tests.fakes.house import House, Run, houses
from tests.fakes.streams import RowsDoor

X = np.arange(100, dtype=np.float32).reshape(50, 2)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    for house in houses("uvloop", tmp_path / "s"):
        house.server.door = house.door = RowsDoor()
        yield house.start()


def test_a_loop_goes_over_the_answers(run: Run):
    async def scene(client: Client) -> None:
        answers = [answer async for answer in client.stream("m", x=X)]
        assert [answer.index for answer in answers] == list(range(51))
        assert answers[-1].is_last
        np.testing.assert_array_equal(np.concatenate([one["x"] for one in answers[:-1]]), X)
        places = [one.index async for one in client.stream("m", x=X, outputs=("x",), ahead=1)]
        assert places == list(range(50))

    run(scene)


def test_many_tasks_share_a_connection(run: Run):
    async def scene(client: Client) -> None:
        async def go() -> list[int]:
            return [one.index async for one in client.stream("m", x=X, ahead=3)]

        found = await asyncio.gather(*(go() for _ in range(5)), client.infer("m", x=X))
        assert found[:5] == [list(range(51))] * 5

    run(scene)


def test_leaving_withdraws_the_request(house: House, run: Run):
    async def scene(client: Client) -> None:
        async with client.stream("m", x=X, ahead=1) as answers:
            async for answer in answers:
                if answer.index == 3:
                    break
        await until(lambda: house.door.streams[0].ended)
        assert [one async for one in answers] == []
        async for _ in client.stream("m", x=X, ahead=1):
            break
        gc.collect()
        await until(lambda: house.door.streams[1].ended)
        never = client.stream("m", x=X)
        await never.aclose()
        assert [one async for one in never] == []
        assert len(house.door.streams) == 2

    run(scene)


def test_cancelling_the_task_withdraws_the_request(house: House, run: Run):
    async def scene(client: Client) -> None:
        seen = []

        async def go() -> None:
            async for answer in client.stream("m", x=X, ahead=2):
                seen.append(answer.index)
                house.call(setattr, house.door.streams[0].flow, "is_held", True)

        task = asyncio.ensure_future(go())
        await until(lambda: len(seen) == 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: house.door.streams[0].ended)

    run(scene)


def test_errors_end_it_at_any_time(house: House, run: Run):
    async def scene(client: Client) -> None:
        stream = client.stream("m", x=X, ahead=2)
        assert (await stream.__anext__()).index == 0
        await until(lambda: house.door.streams[0].given >= 2)
        house.call(house.door.streams[0].end, QueueFullError("full"))
        with pytest.raises(QueueFullError, match="full"):
            async for _ in stream:
                pass
        stream = client.stream("m", x=X, ahead=1)
        assert (await stream.__anext__()).index == 0
        await client.close()
        with pytest.raises(DisconnectedError):
            async for _ in stream:
                pass

    run(scene)
