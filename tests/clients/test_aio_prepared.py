"""Which way a request of the asyncio client's prepared call goes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edged.aio import Client
from edged.errors import LayoutChangedError
from edged.messages import LentInputs
from tests.fakes.house import LOOPS, House, houses

SMALL = np.ones((1, 4), np.float32)
LARGE = np.ones((1, 1 << 15), np.float32)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    for house in houses(next(iter(LOOPS)), tmp_path / "s"):
        yield house.start()


@pytest.mark.parametrize(("x", "is_lent"), [(SMALL, False), (LARGE, True)])
def test_the_cheapest_one(house: House, x: np.ndarray, is_lent: bool):
    async def scene() -> None:
        async with Client(house.path) as client:
            call = await client.prepare("m", x=((None, x.shape[1]), "float32"))
            assert [one.name for one in call.inputs] == [one.name for one in call.outputs] == ["x"]
            for _ in range(2):
                np.testing.assert_array_equal((await call(x))["x"], x)
            np.testing.assert_array_equal((await call.infer(x=x))["x"], x)
            assert (type(house.door.requests[-1].inputs) is LentInputs) == is_lent
            np.testing.assert_array_equal((await (await call.submit(x=x)).result())["x"], x)
            assert type(house.door.requests[-1].inputs) is not LentInputs
            call.close()

    asyncio.run(asyncio.wait_for(scene(), 30))


def test_what_another_release_refuses_is_asked_again(house: House):
    async def scene() -> None:
        async with Client(house.path) as client:
            call = await client.prepare("m", x=((None, 4), "float32"))
            house.door.error = LayoutChangedError("another release")
            np.testing.assert_array_equal((await call(SMALL))["x"], SMALL)
            assert house.door.prepared == 2

    asyncio.run(asyncio.wait_for(scene(), 30))
