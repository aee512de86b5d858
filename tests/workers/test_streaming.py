"""Texts through a worker's socket: the other end is a real Worker on a thread, or this test."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from edged import generating
from edged.errors import CancelledError, RunError, WorkerDiedError
from edged.generating import request
from edged.messages import InferResponse
from edged.protocol import native, streams
from edged.protocol.frames import Kind, encode_frame
from edged.tensors import Array
from edged.workers.session import WorkerCaps
from edged.workers.streaming import TextSession
from tests.fakes.clock import Clock, on_loop, turns, until
from tests.fakes.texts import COUNTING, CountingRuntime, CountingSession, whole
from tests.fakes.worker import FakeProcess, ThreadProcess, Told, Workers

S = 1_000_000_000


class Text(Told):
    """One text that was asked for."""

    def __init__(self, session: TextSession, **options: Any) -> None:
        super().__init__()
        self.parts: list[Mapping[str, Array]] = []
        inputs = {**request("count", **options), "caps": np.array([9, 99], np.int64)}
        self.stop = session.stream(inputs, self.parts.append, self.on_done)

    @property
    def tokens(self) -> list[int]:
        return [int(token) for part in self.parts for token in part["tokens"]]


class House:
    def __init__(self, workers: Workers) -> None:
        self.workers = workers
        self.told = Told()

    def session(self, **caps: float) -> TextSession:
        session = TextSession("onnxruntime-genai", COUNTING, WorkerCaps(**caps))
        session.attach(asyncio.get_running_loop(), self.told.deaths.append)
        return session


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[House, CountingSession]]:
    workers, runtime = Workers(monkeypatch, ThreadProcess), CountingRuntime()
    workers.runtime = runtime  # type: ignore[assignment]
    yield House(workers), runtime.session
    if runtime.session.gate is not None:
        runtime.session.gate.release(99)
    workers.close()


@pytest.fixture
def puppets(monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    workers = Workers(monkeypatch, FakeProcess)
    yield House(workers)
    workers.close()


class TestBackToBack:
    @on_loop
    async def test_one_after_another(self, counting: tuple[House, CountingSession]):
        house, _ = counting
        session = house.session()
        for count in (3, 1, 9):
            text = Text(session, max_new_tokens=count)
            await until(lambda: text.answers)  # noqa: B023 - waited for here
            assert text.error is None
            assert text.tokens == list(range(count - 1))
            assert whole(text.answers[0][0]) == (f"{count - 1} ", [count - 1], "length")
        session.close()

    @on_loop
    async def test_runs_of_the_plain_kind_between_them(
        self, counting: tuple[House, CountingSession]
    ):
        house, _ = counting
        session = house.session()
        for _ in range(2):
            told = Told()
            session.begin(request("count", max_new_tokens=2), told.on_done)
            await until(lambda: told.answers)  # noqa: B023
            assert whole(told.answers[0][0]) == ("0 1 ", [0, 1], "length")
            text = Text(session, max_new_tokens=2)
            await until(lambda: text.answers)  # noqa: B023
            assert text.tokens == [0]
        session.close()

    @on_loop
    async def test_withdrawn(self, counting: tuple[House, CountingSession]):
        """No piece comes after it; the way is free when the worker has ended it, and usable."""
        house, made = counting
        made.gate = threading.Semaphore(2)
        session = house.session()
        text = Text(session)
        await until(lambda: len(text.parts) == 2)
        text.stop()
        text.stop()
        assert not text.answers
        assert not session.is_free
        made.gate.release()
        await until(lambda: text.answers)
        assert isinstance(text.error, CancelledError)
        assert len(text.parts) == 2
        assert (made.made, made.ended) == (3, 1)
        made.gate = None
        text.stop()
        other = Text(session, max_new_tokens=2)
        await until(lambda: other.answers)
        assert other.tokens == [0]
        session.close()

    @on_loop
    async def test_withdrawn_before_the_first_piece(self, counting: tuple[House, CountingSession]):
        house, made = counting
        made.gate = threading.Semaphore(0)
        session = house.session()
        text = Text(session)
        text.stop()
        await until(lambda: made.asked)
        # A token each time that the loop has turned.
        await until(lambda: text.answers or made.gate.release())
        assert isinstance(text.error, CancelledError)
        assert not text.parts
        assert made.made < 9
        session.close()

    @on_loop
    async def test_withdrawn_as_it_ends(self, counting: tuple[House, CountingSession]):
        """A word that comes too late is for nobody."""
        house, _ = counting
        session = house.session()
        for _ in range(20):
            text = Text(session, max_new_tokens=2)
            await until(lambda: text.parts)  # noqa: B023
            text.stop()
            await until(lambda: text.answers)  # noqa: B023
        last = Text(session, max_new_tokens=3)
        await until(lambda: last.answers)
        assert last.tokens == [0, 1]
        session.close()
        assert not house.told.deaths

    @on_loop
    async def test_a_failure(self, counting: tuple[House, CountingSession]):
        house, made = counting
        made.error = RunError("so")
        session = house.session()
        text = Text(session)
        await until(lambda: text.answers)
        assert isinstance(text.error, RunError)
        assert text.tokens == [0]
        session.close()


def part(number: int, index: int) -> list[bytes]:
    outputs = {"text": np.zeros(1, np.uint8), "tokens": np.array([index], np.int32)}
    return streams.encode_part(number, InferResponse("", 0, 0, outputs), index)  # type: ignore[return-value]


class TestTheOtherEndPlayed:
    @on_loop
    async def test_time_is_to_the_next_piece(self, puppets: House, monkeypatch: pytest.MonkeyPatch):
        clock = Clock(monkeypatch)
        monkeypatch.setattr("time.monotonic", lambda: clock.now_ns / 1e9)
        session = puppets.session(run_timeout_s=3)
        text = Text(session)
        process = puppets.workers.last
        number = process.frame().request_id
        for index in range(3):
            await clock.forward(2 * S)
            process.say(part(number, index))
            await until(lambda: len(text.parts) == index + 1)  # noqa: B023
            await clock.forward(0)
        assert not text.answers
        await clock.forward(4 * S)
        await clock.forward(0)
        assert isinstance(text.error, WorkerDiedError)
        assert "did not answer in time" in str(text.error)
        assert len(puppets.told.deaths) == 1

    @on_loop
    async def test_a_withdrawal_waits_for_the_first_piece(self, puppets: House):
        """Else the worker might find it before it looks for it, and make the whole text."""
        session = puppets.session()
        text = Text(session)
        process = puppets.workers.last
        number = process.frame().request_id
        text.stop()
        process.peer.setblocking(False)
        with pytest.raises(BlockingIOError):
            process.peer.recv(1, socket.MSG_PEEK)
        process.peer.settimeout(15)
        process.say(part(number, 0))
        await until(lambda: not session.is_free and session._index == 1)
        frame = process.frame()
        assert (frame.kind, frame.request_id) == (Kind.CANCEL, number)
        assert not text.parts
        session.close()

    @on_loop
    async def test_a_death_ends_the_text(self, puppets: House):
        session = puppets.session()
        text = Text(session)
        process = puppets.workers.last
        process.say(part(process.frame().request_id, 0))
        await until(lambda: text.parts)
        process.die("died of SIGSEGV", "SIGSEGV")
        await until(lambda: text.answers)
        assert isinstance(text.error, WorkerDiedError)
        assert session.crash == "SIGSEGV"

    @on_loop
    async def test_closed_meanwhile(self, puppets: House):
        session = puppets.session()
        text = Text(session)
        session.close()
        await until(lambda: text.answers)
        assert isinstance(text.error, WorkerDiedError)
        text.stop()

    @on_loop
    async def test_asked_of_one_that_is_closed(self, puppets: House):
        session = puppets.session()
        session.close()
        text = Text(session)
        await until(lambda: text.answers)
        assert isinstance(text.error, WorkerDiedError)

    @on_loop
    async def test_a_piece_that_is_none(self, puppets: House):
        session = puppets.session()
        text = Text(session)
        process = puppets.workers.last
        number = process.frame().request_id
        process.say(encode_frame(Kind.PART, number, b"\xc1" * 8, []))
        await until(lambda: text.answers)
        assert isinstance(text.error, WorkerDiedError)
        assert "broke the protocol" in str(text.error)

    @on_loop
    async def test_pieces_that_nobody_asked_for(self, puppets: House):
        session = puppets.session()
        first = Text(session)
        process = puppets.workers.last
        frame = process.frame()
        assert frame.kind == Kind.STREAM
        outputs = generating.tensors([generating.Piece("x", 1, "eos")])
        end = native.encode_response(frame.request_id, InferResponse("", 0, 0, outputs))
        process.say(end)
        await until(lambda: first.answers)
        process.say(part(frame.request_id, 0))
        second = Text(session)
        number = process.frame().request_id
        process.say(part(frame.request_id, 1))
        process.say(part(number, 0))
        await until(lambda: second.parts)
        await turns()
        assert (first.tokens, second.tokens) == ([], [0])
        session.close()
