"""A process that was forked from one with clients: nobody reads what is the other's."""

from __future__ import annotations

import asyncio
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edged import aio
from edged.client import Client
from edged.errors import DisconnectedError, InvalidRequestError
from tests.fakes.house import LOOPS, House, eventually, houses

SMALL, WIDE = ((None, 4), "float32"), ((None, 1 << 15), "float32")
LIMIT_S = 60

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    for made in houses("uvloop", tmp_path / "s"):
        yield made.start()


def row(layout: tuple[tuple[None, int], str], value: float) -> np.ndarray:
    return np.full((1, layout[0][1]), value, np.float32)


def copied(work: Callable[[], object]) -> int:
    """Begin ``work`` in a copy of this process."""
    number = os.fork()
    if number:
        return number
    status = 1
    try:
        signal.alarm(LIMIT_S)
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def assert_well(*numbers: int) -> None:
    assert [os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) for number in numbers] == [
        0 for _ in numbers
    ]


@pytest.mark.parametrize("layout", [SMALL, WIDE], ids=["small", "by memory"])
@pytest.mark.parametrize("is_prepared", [False, True])
def test_each_reads_its_own_answers(house: House, layout, is_prepared: bool):
    """Both went on counting requests alike on one connection, and took each other's answers."""
    with Client(house.path, timeout=LIMIT_S) as client:
        prepared = client.prepare("m", x=layout)

        def ask(first: int) -> None:
            for number in range(first, first + 30):
                x = row(layout, number)
                result = prepared(x) if is_prepared else client.infer("m", x=x)
                assert (result["x"] == number).all()

        ask(0)
        children = [copied(lambda first=first: ask(first)) for first in (1000, 2000)]
        ask(3000)
        assert_well(*children)
        assert len(house.server.connections) >= 1
        ask(4000)


def test_what_was_on_its_way_is_the_originals(house: House):
    house.door.is_holding = True
    with Client(house.path, timeout=LIMIT_S) as client:
        pending = client.submit("m", x=row(SMALL, 1))

        def work() -> None:
            with pytest.raises(DisconnectedError, match="forked"):
                pending.result()
            assert not pending.cancel()

        assert_well(copied(work))
        assert not pending.is_done


def test_memory_that_the_original_writes_is_not_sent(house: House):
    with Client(house.path, timeout=LIMIT_S) as client:
        memory = client.prepare("m", x=WIDE).place(1)
        memory.inputs["x"][:] = 1
        memory.run()

        def work() -> None:
            with pytest.raises(InvalidRequestError, match="forked"):
                memory.run()

        assert_well(copied(work))
        assert (memory.run()["x"] == 1).all()
        memory.close()


def test_of_asyncio_a_copy_uses_memory_of_its_own(house: House):
    client = aio.Client(house.path, timeout=LIMIT_S)

    async def ask(first: int) -> None:
        for number in range(first, first + 10):
            result = await client.infer("m", x=row(WIDE, number))
            assert (result["x"] == number).all()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(ask(0))
    child = copied(lambda: asyncio.run(ask(1000)))
    loop.run_until_complete(ask(2000))
    assert_well(child)
    loop.run_until_complete(client.close())
    loop.close()


@pytest.mark.parametrize("kind", LOOPS)
def test_of_asyncio_a_copy_ends_nothing_of_the_originals(house: House, kind: str):
    """It closes its client, its memory and what it waits for; the other goes on asking."""
    client = aio.Client(house.path, timeout=LIMIT_S)

    async def ask() -> aio.Placed:
        placed = await (await client.prepare("m", x=WIDE)).place(1)
        await placed.run()
        return placed

    loop = LOOPS[kind]()
    placed = loop.run_until_complete(ask())
    house.door.is_holding = True
    pending = loop.run_until_complete(client.submit("m", x=row(SMALL, 1)))

    async def leave() -> None:
        assert not pending.cancel()
        placed.close()
        await client.close()

    assert_well(copied(lambda: asyncio.run(leave())))
    house.call(house.door.release_all)
    house.door.is_holding = False

    async def go_on() -> None:
        assert (await pending)["x"].all()
        await placed.run()
        await client.close()

    loop.run_until_complete(go_on())
    assert house.door.cancelled == 0
    loop.close()


@pytest.mark.parametrize("kind", LOOPS)
def test_a_client_is_closed_by_another_loop_than_it_was_used_by(house: House, kind: str):
    client = aio.Client(house.path, timeout=LIMIT_S)

    async def ask() -> None:
        assert (await client.infer("m", x=row(SMALL, 1)))["x"].all()

    before, after = LOOPS[kind](), LOOPS[kind]()
    before.run_until_complete(ask())
    after.run_until_complete(client.close())
    eventually(lambda: len(house.server.connections) == 1)
    before.run_until_complete(asyncio.sleep(0))  # what it was told from there
    eventually(lambda: not house.server.connections)
    after.run_until_complete(ask())
    after.run_until_complete(client.close())
    for loop in (before, after):
        loop.close()
