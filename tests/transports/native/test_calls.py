"""Calls of one connection: found, allowed, answered, and ended with it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from edged.access.gate import Access, Gate
from edged.access.policy import Peer, Policy
from edged.errors import DeniedError, NotFoundError
from edged.protocol import native
from edged.protocol.frames import Kind
from edged.transports.native.calls import Calls
from tests.fakes.wire import only


class Stand:
    def __init__(self) -> None:
        async def status(arguments: dict[str, Any]) -> Any:
            await self.gate.wait()
            return arguments

        self.gate = asyncio.Event()
        self.written: list[Any] = []
        self.in_flight: dict[int, Any] = {}
        self.ended = 0
        server: Any = SimpleNamespace(calls={"status": status})
        self.calls = Calls(server, self.written.append, self.end, self.in_flight)

    def end(self) -> None:
        self.ended += 1

    def find(self, verb: str) -> Any:
        return self.calls.find(only(native.encode_call(1, verb, {"a": 1})))


def test_a_call_is_answered_once_under_its_id():
    async def work() -> None:
        stand = Stand()
        stand.calls.begin(1, *stand.find("status"), "uds:7")
        assert 1 in stand.in_flight
        stand.gate.set()
        await asyncio.gather(*stand.calls._tasks)
        frame = only(stand.written[0])
        assert (frame.kind, frame.request_id) == (Kind.REPLY, 1)
        assert not stand.in_flight
        assert stand.ended == 1

    asyncio.run(work())


def test_what_there_is_not_and_what_is_not_allowed():
    async def work() -> None:
        stand = Stand()
        with pytest.raises(NotFoundError, match="there are: status"):
            stand.find("stat")
        stand.calls.visit = Gate(Access(Policy(()))).enter(Peer("native", 7), lambda: None)
        with pytest.raises(DeniedError):
            stand.find("status")

    asyncio.run(work())


def test_who_is_gone_gets_nothing():
    async def work() -> None:
        stand = Stand()
        stand.calls.begin(1, *stand.find("status"), "uds:7")
        await asyncio.sleep(0)
        stand.calls.stop()
        stand.gate.set()
        for _ in range(5):
            await asyncio.sleep(0)
        assert not stand.written

    asyncio.run(work())
