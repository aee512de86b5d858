"""A listener that moves, is refused, or is undone, on TCP and on Unix sockets."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edged.config.listen import HttpConfig
from edged.errors import ApplyError
from edged.transports.web_listener import WebListener, shown
from tests.compat.stand import free_port

LOG = logging.getLogger("test")


class Hello(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        transport.write(b"hello")
        transport.close()


async def said(place: HttpConfig) -> bytes | None:
    """What is said there; None where nobody listens."""
    with contextlib.suppress(OSError):
        if place.path is not None:
            reader, writer = await asyncio.open_unix_connection(place.path)
        else:
            reader, writer = await asyncio.open_connection(place.host, place.port)
        data = await reader.read()
        writer.close()
        return data
    return None


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def listening(work: Callable[[WebListener], Any]) -> None:
    async def run() -> None:
        listener = WebListener("listen.http", "hello", Hello, LOG)
        try:
            await work(listener)
        finally:
            listener.close()

    asyncio.run(run())


def test_it_moves(tmp_path: Path) -> None:
    places = [
        HttpConfig(path=str(tmp_path / "a")),
        HttpConfig(path=str(tmp_path / "b"), mode="0600"),
        HttpConfig(port=free_port()),
        HttpConfig(port=free_port()),
        HttpConfig(path=str(tmp_path / "a")),
    ]

    async def work(listener: WebListener) -> None:
        before = None
        for place in places:
            staged = listener.prepare(place)
            if before is not None:
                assert await said(before) == b"hello", "the old one answers until the change"
            await listener.commit(staged)
            assert listener.place == place
            assert await said(place) == b"hello"
            if before is not None:
                assert await said(before) is None
            before = place
        await listener.commit(listener.prepare(None))
        assert before is not None
        assert await said(before) is None
        assert names(tmp_path) == []

    listening(work)


def test_what_is_undone_leaves_all_as_it_was(tmp_path: Path) -> None:
    first = HttpConfig(path=str(tmp_path / "a"))

    async def work(listener: WebListener) -> None:
        await listener.commit(listener.prepare(first))
        for other in (HttpConfig(path=str(tmp_path / "b")), HttpConfig(port=free_port())):
            listener.abandon(listener.prepare(other))
            assert await said(other) is None
            assert await said(first) == b"hello"
        assert names(tmp_path) == ["a"]

    listening(work)


def test_another_mode_of_the_same_path(tmp_path: Path) -> None:
    first = HttpConfig(path=str(tmp_path / "a"))
    closed = HttpConfig(path=str(tmp_path / "a"), mode="0600")

    def mode() -> int:
        return stat.S_IMODE((tmp_path / "a").stat().st_mode)

    async def work(listener: WebListener) -> None:
        await listener.commit(listener.prepare(first))
        assert mode() == 0o660
        staged = listener.prepare(closed)
        assert mode() == 0o600
        listener.abandon(staged)
        assert mode() == 0o660
        await listener.commit(listener.prepare(closed))
        assert mode() == 0o600
        assert await said(closed) == b"hello"

    listening(work)


def test_another_setting_of_the_same_port_needs_no_second_socket() -> None:
    port = free_port()

    async def work(listener: WebListener) -> None:
        await listener.commit(listener.prepare(HttpConfig(port=port)))
        await listener.commit(listener.prepare(HttpConfig(port=port, server_name="triton")))
        assert await said(HttpConfig(port=port)) == b"hello"

    listening(work)


def test_a_port_that_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()

        async def work(listener: WebListener) -> None:
            with pytest.raises(ApplyError, match=r"listen\.http: cannot listen on http://127"):
                listener.prepare(HttpConfig(port=taken.getsockname()[1]))
            assert listener.place is None

        listening(work)


def test_a_path_that_is_no_socket(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")

    async def work(listener: WebListener) -> None:
        with pytest.raises(ApplyError):
            listener.prepare(HttpConfig(path=str(tmp_path / "file")))

    listening(work)
    assert (tmp_path / "file").read_text() == "mine"


def test_how_it_is_shown() -> None:
    assert shown(HttpConfig(port=9)) == "http://127.0.0.1:9"
    assert shown(HttpConfig(port=9, host="::1")) == "http://[::1]:9"
    assert shown(HttpConfig(path="/run/s")) == "/run/s"
    assert shown(None) == ""
