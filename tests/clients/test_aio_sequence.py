"""Sequences through the asyncio client, on either loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edged.aio import Client
from edged.errors import DisconnectedError, RunError, SequenceNotFoundError
from tests.fakes.house import House, Run, houses
from tests.fakes.stateful import door

ONE, BAD = np.ones((1, 3), np.float32), np.full((1, 3), np.nan, np.float32)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    for house in houses("uvloop", tmp_path / "s"):
        house.server.door = house.door = house.call(door)
        yield house.start()


def count(result) -> float:
    """How many requests the model has seen before."""
    return float(result["y"][0, 3])


def test_several_at_once(run: Run):
    async def one(client: Client) -> list[float]:
        async with client.sequence("gate") as sequence:
            found = [count(await sequence.infer(x=ONE)) for _ in range(5)]
            pending = [await sequence.submit({"x": ONE}) for _ in range(3)]
            return found + [count(await each.result()) for each in pending]

    async def scene(client: Client) -> None:
        for found in await asyncio.gather(*(one(client) for _ in range(6))):
            assert found == list(range(8))

    run(scene)


def test_what_goes_wrong(run: Run):
    async def scene(client: Client) -> None:
        sequence = client.sequence("gate", "mic")
        with pytest.raises(RunError):
            await sequence.infer(x=BAD)
        assert count(await sequence.infer(x=ONE)) == 0
        await client.sequence("gate", "mic").infer(x=ONE, end=True)
        with pytest.raises(SequenceNotFoundError):
            await sequence.infer(x=ONE)
        sequence.restart()
        assert count(await sequence.infer(x=ONE)) == 0
        await sequence.end()
        await sequence.end()

    run(scene)


def test_what_was_not_sent_did_not_begin_it(run: Run, house: House, tmp_path: Path):
    async def scene(client: Client) -> None:
        sequence = client.sequence("gate")
        client.path = str(tmp_path / "nobody")
        for ask in (sequence.infer, sequence.submit):
            with pytest.raises(DisconnectedError):
                await ask(x=ONE)
            assert not sequence.is_open
        client.path = str(house.path)
        assert count(await sequence.infer(x=ONE)) == 0
        await client.close()
        client.path = str(tmp_path / "nobody")
        with pytest.raises(DisconnectedError):
            await sequence.submit(x=ONE, end=True)
        assert sequence.is_open
        client.path = str(house.path)
        assert count(await sequence.infer(x=ONE, end=True)) == 1

    run(scene)
