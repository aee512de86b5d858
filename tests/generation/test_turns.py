"""Hundreds of models are gone through in turns of the loop, in order and none left out."""

from __future__ import annotations

import asyncio
import socket
from types import SimpleNamespace
from typing import Any

import pytest

from edged.generation import turns as module
from edged.generation.pace import let_in
from edged.generation.turns import OneByOne, follow_in_turns, in_turns


def run(work: Any) -> int:
    """How many turns others had meanwhile."""
    had = 0

    async def others() -> None:
        nonlocal had
        while True:
            await asyncio.sleep(0)
            had += 1

    async def both() -> None:
        task = asyncio.create_task(others())
        await work()
        task.cancel()

    asyncio.run(both())
    return had


@pytest.mark.parametrize(("count", "pieces"), [(0, 0), (1, 1), (32, 1), (33, 2), (200, 7)])
def test_others_have_a_turn_after_each_piece(count: int, pieces: int) -> None:
    found: list[list[int]] = []

    async def work() -> None:
        async for some in in_turns(range(count)):
            found.append(list(some))

    assert run(work) >= pieces - 1
    assert len(found) == pieces
    assert [one for some in found for one in some] == list(range(count))


@pytest.mark.parametrize("way", ["in_turns", "one by one"])
def test_who_asks_during_a_piece_is_answered_before_the_next(way: str) -> None:
    """A request is read in one turn and run in the next; with ``TURNS`` of 2 this fails."""
    done: list[str] = []

    async def work() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.setblocking(False)

            def read() -> None:
                theirs.recv(1)
                loop.call_soon(done.append, "answer")

            def piece() -> None:
                done.append("piece")
                ours.send(b"x")

            loop.add_reader(theirs, read)
            if way == "in_turns":
                async for _ in in_turns(range(65)):
                    piece()
            else:
                OneByOne().do(piece, piece, piece)
            while len(done) < 6:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0)
            loop.remove_reader(theirs)

    asyncio.run(asyncio.wait_for(work(), 30))
    assert done == 3 * ["piece", "answer"]


def test_every_release_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PIECE", 2)
    told: list[Any] = []
    manager: Any = SimpleNamespace(
        follow=lambda items, *, is_given_anew: told.append((list(items), is_given_anew))
    )

    async def work() -> None:
        await follow_in_turns(manager, [1, 2, 3], is_given_anew=True)  # type: ignore[list-item]

    run(work)
    assert told == [([1, 2], True), ([3], True)]


class TestOneByOne:
    def test_each_in_a_turn_of_its_own(self) -> None:
        done: list[str] = []

        async def work() -> None:
            loop = asyncio.get_running_loop()
            said: list[Any] = []
            loop.set_exception_handler(lambda _, context: said.append(context["exception"]))
            afterwards = OneByOne()
            afterwards.do(lambda: done.append("a"), lambda: 1 // 0, lambda: done.append("c"))
            for expected in ("", "a", "a", "ac", "ac"):
                assert "".join(done) == expected
                await let_in()
            assert [type(one) for one in said] == [ZeroDivisionError]

        asyncio.run(work())

    def test_what_is_asked_for_anew_or_stopped(self) -> None:
        done: list[str] = []

        async def work() -> None:
            afterwards = OneByOne()
            afterwards.do(lambda: done.append("a"), lambda: done.append("b"))
            afterwards.do(
                lambda: done.append("c"),
                lambda: afterwards.do(lambda: done.append("d"), lambda: done.append("e")),
                lambda: done.append("f"),
            )
            while "d" not in done:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0)
            afterwards.stop()
            afterwards.stop()
            await let_in()
            await let_in()

        asyncio.run(asyncio.wait_for(work(), 30))
        assert done == ["c", "d"]
