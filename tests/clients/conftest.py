"""A house on either loop, and either client of it; a file whose house is another makes its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edged import aio
from edged.client import Client
from tests.fakes.house import LOOPS, House, Run, houses


@pytest.fixture(params=LOOPS)
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    yield from houses(request.param, tmp_path / "s")


@pytest.fixture
def client(house: House) -> Iterator[Client]:
    with Client(house.path) as made:
        yield made


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest, house: House) -> Iterator[Run]:
    """Runs ``async def scene(client)`` with an asyncio client of the house, on either loop."""
    loop = LOOPS[request.param]()

    def play(scene: Callable[[aio.Client], Any], **options: Any) -> None:
        async def act() -> None:
            async with aio.Client(house.path, **options) as client:
                await scene(client)

        loop.run_until_complete(asyncio.wait_for(act(), 30))

    yield play
    loop.close()
