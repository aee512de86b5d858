"""Reading with room for descriptors, without a connection around it."""

from __future__ import annotations

import array
import asyncio
import os
import socket
from collections.abc import Callable

import pytest

from edged.transports.native.passing import Passing, close_all
from tests.fakes.descriptors import descriptors
from tests.fakes.house import LOOPS


class Reader:
    """What a connection gives: room, and a note of what came."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.ends = 0
        self._room = bytearray(64)

    def buffer(self) -> memoryview:
        return memoryview(self._room)

    def over(self) -> None:
        self.ends += 1


@pytest.fixture(params=LOOPS)
def on_loop(request: pytest.FixtureRequest) -> Callable[..., None]:
    def run(work: Callable[..., object]) -> None:
        loop = LOOPS[request.param]()
        here, there = socket.socketpair()
        here.setblocking(False)
        reader = Reader()

        async def main() -> None:
            passing = Passing(loop, here.fileno(), reader.buffer, reader.taken.append, reader.over)
            try:
                await work(passing, reader, there)  # type: ignore[misc]
            finally:
                passing.close()

        try:
            loop.run_until_complete(main())
        finally:
            loop.close()
            here.close()
            there.close()

    return run


def send(sock: socket.socket, data: bytes, numbers: list[int]) -> None:
    sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", numbers))])


async def until(condition: Callable[[], object]) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    pytest.fail("what was waited for did not happen")


def test_a_descriptor_comes_with_its_bytes(on_loop):
    async def work(passing: Passing, reader: Reader, there: socket.socket) -> None:
        send(there, b"abc", [0])
        passing.start()
        passing.start()
        await until(lambda: reader.taken)
        (number,) = passing.received()
        assert reader.taken == [3]
        assert os.path.samestat(os.fstat(number), os.fstat(0))
        assert not os.get_inheritable(number)
        assert passing.received() == []
        close_all([number])

    on_loop(work)


def test_what_nobody_takes_is_closed(on_loop):
    async def work(passing: Passing, reader: Reader, there: socket.socket) -> None:
        before = descriptors()
        passing.start()
        for count in range(1, 30):
            send(there, b"x", [0] * 20)
            await until(lambda: len(reader.taken) == count)  # noqa: B023 - within this turn
        assert descriptors() <= before + 4
        passing.close()
        assert descriptors() < before

    on_loop(work)


def test_nothing_is_read_while_it_is_stopped(on_loop):
    async def work(passing: Passing, reader: Reader, there: socket.socket) -> None:
        passing.start()
        passing.stop()
        passing.stop()
        there.send(b"abcd")
        for _ in range(20):
            await asyncio.sleep(0)
        assert not reader.taken
        passing.start()
        await until(lambda: reader.taken == [4])

    on_loop(work)


def test_the_end_is_told(on_loop):
    async def work(passing: Passing, reader: Reader, there: socket.socket) -> None:
        passing.start()
        there.close()
        await until(lambda: reader.ends)
        assert not reader.taken

    on_loop(work)
