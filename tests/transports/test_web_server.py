"""A place to listen at that is prepared, taken or given up again; what is said there is not seen."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path

import pytest

from edged.config.listen import HttpConfig, ListenConfig, WebConfig
from edged.config.schema import Config, LimitsConfig
from edged.errors import ApplyError
from edged.transports.web_server import WebServer


class Ear(asyncio.Protocol):
    """A connection that says nothing."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.is_ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.house.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.house.connections.discard(self)

    def end(self) -> None:
        self.is_ended = True
        self.transport.close()


class House(WebServer[Ear]):
    """A server of its own."""

    def __init__(self) -> None:
        log = logging.getLogger("edged.test")
        super().__init__("http", "http", None, log, what="nothing", protocols=("http/1.1",))
        self.clients: list[asyncio.StreamWriter] = []

    async def leave(self) -> None:
        self.close()
        for writer in self.clients:
            writer.close()
            await writer.wait_closed()
        await self.closed(60)

    def hear(self) -> Ear:
        return Ear(self)

    def _wanted(self, config: Config) -> WebConfig | None:
        return config.listen.http


def at(path: Path | None, **limits: int) -> Config:
    http = None if path is None else HttpConfig(path=str(path))
    return Config(listen=ListenConfig(http=http), limits=LimitsConfig(**limits))


async def connected(house: House, path: Path) -> Ear:
    before = set(house.connections)
    _, writer = await asyncio.open_unix_connection(path)
    house.clients.append(writer)
    while not house.connections - before:  # noqa: ASYNC110 - what is made says nothing
        await asyncio.sleep(0)
    (made,) = house.connections - before
    return made


def test_it_moves_as_a_whole(tmp_path: Path):
    async def scene() -> None:
        house, first, second = House(), tmp_path / "first", tmp_path / "second"
        await house.commit(house.prepare(at(first)), at(first, stream_wait=5 * 10**9))
        assert (house.unread_wait_s, house.max_connections) == (5, 256)
        ear = await connected(house, first)
        staged = house.prepare(at(second))
        house.abandon(staged)
        assert house.place.path == str(first)
        assert not second.exists()
        await connected(house, first)
        await house.commit(house.prepare(at(second)), at(second))
        assert not first.exists()
        await connected(house, second)
        assert not ear.is_ended, "connections that are open stay"
        with pytest.raises(ApplyError, match=r"listen\.http"):
            house.prepare(at(tmp_path / "no" / "folder"))
        await house.commit(house.prepare(at(None)), at(None))
        assert house.place is None
        assert not second.exists()
        await house.leave()
        assert ear.is_ended

    asyncio.run(asyncio.wait_for(scene(), 30))


def test_who_was_let_in_otherwise_has_to_come_again(tmp_path: Path):
    async def scene() -> None:
        house, path = House(), tmp_path / "s"
        await house.commit(house.prepare(at(path)), at(path))
        ear = await connected(house, path)
        staged = house.prepare(at(path))
        await house.commit(staged, at(path))
        assert not ear.is_ended
        staged.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        await house.commit(staged, at(path))
        assert ear.is_ended
        await house.leave()

    asyncio.run(asyncio.wait_for(scene(), 30))
