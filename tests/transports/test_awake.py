"""Staying awake: what is there is read at once; what never comes costs time, and nobody waits."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from edged.system.patience import Patience
from edged.transports import awake
from edged.transports.awake import Vigil, read_awake


def test_what_is_there_and_what_comes() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        buffer = memoryview(bytearray(8))
        assert read_awake(ours.fileno(), buffer, 1000) == 0
        theirs.sendall(b"now")
        assert read_awake(ours.fileno(), buffer, 10**10) == 3
        assert buffer[:3] == b"now"
        later = threading.Timer(0.05, theirs.sendall, [b"later"])
        later.start()
        assert read_awake(ours.fileno(), buffer, 10**10) == 5
        later.join()
        theirs.close()
        assert read_awake(ours.fileno(), buffer, 10**10) == 0, "it is gone: the loop sees to it"
    assert read_awake(-1, buffer, 10**10) == 0


class Noted(Patience):
    """How each wait ended."""

    def __init__(self) -> None:
        super().__init__(1)
        self.ends: list[bool] = []

    def ended(self, *, in_time: bool) -> None:
        self.ends.append(in_time)


class TestVigil:
    def test_others_have_their_turns_until_it_is_over(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        patience, vigil, now_ns = Noted(), Vigil(), 0
        monkeypatch.setattr(awake.time, "monotonic_ns", lambda: now_ns)

        async def main() -> None:
            nonlocal now_ns
            vigil.begin(patience, 1000)
            for _ in range(20):
                await asyncio.sleep(0)
            assert patience.ends == []
            now_ns = 1000
            for _ in range(3):
                await asyncio.sleep(0)
            assert patience.ends == [False]
            vigil.end(in_time=True)

        asyncio.run(main())
        assert patience.ends == [False], "it is told once"

    def test_none_where_others_want_the_core(self, monkeypatch: pytest.MonkeyPatch) -> None:
        patience, vigil, now_ns, took_ns = Noted(), Vigil(), 0, 1_000

        def give_way() -> None:
            nonlocal now_ns
            now_ns += took_ns

        monkeypatch.setattr(awake.time, "monotonic_ns", lambda: now_ns)
        monkeypatch.setattr(awake.os, "sched_yield", give_way)

        async def main() -> None:
            nonlocal took_ns
            vigil.begin(patience, 10**12)
            for _ in range(5):
                await asyncio.sleep(0)
            assert (patience.ends, now_ns) == ([], 5_000)
            took_ns = 100_000
            for _ in range(5):
                await asyncio.sleep(0)
            assert (patience.ends, now_ns) == ([False], 105_000)

        asyncio.run(main())

    def test_what_comes_ends_it_and_the_next_begins(self, monkeypatch: pytest.MonkeyPatch) -> None:
        patience, vigil = Noted(), Vigil()
        turns: list[bool] = []
        monkeypatch.setattr(awake.os, "sched_yield", lambda: turns.append(True))
        monkeypatch.setattr(awake, "_SHARED_NS", 10**12)

        async def main() -> None:
            vigil.end(in_time=True)
            assert patience.ends == [], "there was none"
            for number in range(1, 4):
                vigil.begin(patience, 10**12)
                await asyncio.sleep(0)
                assert len(turns) == number, "one turn of it waits in the loop, not one for each"
                vigil.end(in_time=True)
            assert patience.ends == [True] * 3
            for _ in range(3):
                await asyncio.sleep(0)
            assert len(turns) == 3

        asyncio.run(main())
