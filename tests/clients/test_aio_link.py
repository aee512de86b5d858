"""The asyncio client's connection: what it does with a server that misbehaves."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from edged.clients.aio_link import Link, Pending
from edged.errors import DeadlineExceededError, DisconnectedError
from edged.messages import InferRequest, InferResponse
from edged.protocol import native
from edged.protocol.frames import FrameReader, Kind, Limits
from tests.fakes.clock import on_loop, turns, until
from tests.fakes.wire import header, joined

X = np.arange(8, dtype=np.float32).reshape(2, 4)
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def encode(number: int) -> list:
    return native.encode_infer(number, InferRequest("m", {"x": X}))


async def linked(path: Path, serve: Serve) -> tuple[asyncio.AbstractServer, Link]:
    server = await asyncio.start_unix_server(serve, path)
    loop = asyncio.get_running_loop()
    _, link = await loop.create_unix_connection(lambda: Link(str(path)), str(path))
    return server, link


async def ended(server: asyncio.AbstractServer, link: Link) -> None:
    link.drop(DisconnectedError("done"))
    await link.closed
    server.close()
    await turns()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "l"


@on_loop
async def test_garbage_ends_it_after_the_good_answers(path: Path):
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frames = []
        parser = FrameReader(Limits())
        while len(frames) < 3:
            frames += parser.feed(await reader.read(1 << 16))
        assert [frame.kind for frame in frames] == [Kind.HELLO, Kind.INFER, Kind.INFER]
        good = native.encode_response(1, InferResponse("m", 1, 1, {"y": X}))
        writer.write(joined(good) + header(magic=b"HTTP"))
        await reader.read()
        writer.close()

    server, link = await linked(path, serve)
    first, second = Pending("m", None), Pending("m", None)
    for pending in (first, second):
        link.ask(pending, encode)
    np.testing.assert_array_equal((await first)["y"], X)
    with pytest.raises(DisconnectedError, match="does not start with EDGD"):
        await second
    await ended(server, link)


@on_loop
async def test_a_daemon_that_does_not_read(path: Path):
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await gate.wait()
        writer.close()

    gate = asyncio.Event()
    server, link = await linked(path, serve)
    big = Pending("m", None)
    link.ask(
        big,
        lambda n: native.encode_infer(n, InferRequest("m", {"x": np.zeros(8 << 20, np.uint8)})),
    )
    with pytest.raises(DeadlineExceededError, match="does not read"):
        await link.drained(link.loop.time() + 0.02)
    waiter = asyncio.ensure_future(link.drained(None))
    await turns()
    assert not waiter.done()
    gate.set()
    with pytest.raises(DisconnectedError):
        await big
    await waiter
    await ended(server, link)


@on_loop
async def test_a_request_that_cannot_be_encoded_leaves_nothing_behind(path: Path):
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server, link = await linked(path, serve)
    with pytest.raises(ZeroDivisionError):
        link.ask(Pending("m", None), lambda _: 1 / 0)
    assert not link.waiting
    link.withdraw(Pending("m", None), DisconnectedError("nobody's"))
    link.drop(DisconnectedError("first"))
    link.drop(DisconnectedError("second"))
    await until(link.closed.done)
    assert link.error.message == "first"
    link.write(encode(1))
    await ended(server, link)


@on_loop
async def test_who_waited_to_lend_is_told_that_the_connection_broke(path: Path):
    """The second waits for the first, and takes its turn on a connection that is no more."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser, kinds = FrameReader(Limits()), []
        while Kind.LEND not in kinds:
            kinds += [frame.kind for frame in parser.feed(await reader.read(1 << 16))]
        writer.close()

    server, link = await linked(path, serve)
    descriptor = os.memfd_create("lent")
    lends = [link.lend(descriptor, 1 << 16, None) for _ in range(2)]
    found = await asyncio.wait_for(asyncio.gather(*lends, return_exceptions=True), 30)
    os.close(descriptor)
    assert [type(one) for one in found] == [DisconnectedError] * 2
    assert not link.waiting
    await ended(server, link)
