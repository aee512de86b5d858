"""The listener under peers of every kind: slow, silent, many, and those that never read."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from edged.config.listen import ListenConfig, MetricsConfig
from edged.config.schema import Config
from edged.errors import ApplyError
from edged.protocol.http_get import Reply, Request
from edged.transports.scrape import MAX_CONNECTIONS, ScrapeServer
from edged.transports.web_listener import shown
from tests.fakes.descriptors import descriptors
from tests.fakes.house import eventually

GET = b"GET /page HTTP/1.1\r\nHost: a\r\n\r\n"


class Stand:
    """A ScrapeServer in a thread of its own."""

    def __init__(
        self, new_loop: Callable[[], asyncio.AbstractEventLoop], lifetime_s: float
    ) -> None:
        self.gate: asyncio.Event | None = None
        self.trouble: list[Any] = []
        self._loop = new_loop()
        self._loop.set_exception_handler(lambda _, context: self.trouble.append(context))
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        pages = {"/page": self.page, "/fail": self.fail, "/hold": self.hold, "/big": self.big}
        self.server = ScrapeServer(pages, lifetime_s)

    async def page(self, request: Request) -> Reply:
        return Reply(200, b"hello\n")

    async def big(self, request: Request) -> Reply:
        return Reply(200, b"x" * (8 << 20))

    async def fail(self, request: Request) -> Reply:
        raise ZeroDivisionError

    async def hold(self, request: Request) -> Reply:
        self.gate = asyncio.Event()
        await self.gate.wait()
        return Reply(200, b"at last\n")

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def apply(self, metrics: MetricsConfig | None) -> None:
        async def work() -> None:
            config = Config(listen=ListenConfig(metrics=metrics))
            await self.server.commit(self.server.prepare(config), config)

        self.run(work())

    def stop(self) -> None:
        async def work() -> None:
            self.server.close()

        self.run(work())
        eventually(lambda: not self.server.connections)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def stand(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stand]:
    made = Stand(request.param, 30.0)
    made.apply(MetricsConfig(path=str(tmp_path / "s")))
    yield made
    made.stop()
    assert not made.trouble, made.trouble


def dial(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(20)
    sock.connect(str(path))
    return sock


def read_all(sock: socket.socket) -> bytes:
    data = b""
    try:
        while more := sock.recv(1 << 16):
            data += more
    except ConnectionResetError:
        pass
    return data


def ask(path: Path, data: bytes = GET) -> bytes:
    with dial(path) as sock:
        sock.sendall(data)
        return read_all(sock)


def test_pages(stand: Stand, tmp_path: Path) -> None:
    path = tmp_path / "s"
    assert ask(path).endswith(b"\r\n\r\nhello\n")
    assert ask(path, GET.replace(b"/page", b"/none")).startswith(b"HTTP/1.1 404 ")
    assert ask(path, GET.replace(b"/page", b"/fail")).startswith(b"HTTP/1.1 500 ")
    assert ask(path, GET.replace(b"GET", b"PUT")).startswith(b"HTTP/1.1 405 ")
    assert ask(path, b"\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    assert len(ask(path, GET.replace(b"/page", b"/big"))) > 8 << 20


def test_one_request_a_connection(stand: Stand, tmp_path: Path) -> None:
    answer = ask(tmp_path / "s", GET * 3)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.count(b"hello") == 1


def test_byte_by_byte_and_half_a_head(stand: Stand, tmp_path: Path) -> None:
    with dial(tmp_path / "s") as sock:
        for start in range(len(GET)):
            sock.sendall(GET[start : start + 1])
        assert read_all(sock).endswith(b"hello\n")
    with dial(tmp_path / "s") as sock:
        sock.sendall(GET[:10])
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock) == b""
    eventually(lambda: not stand.server.connections)


def test_a_head_without_end_is_cut(stand: Stand, tmp_path: Path) -> None:
    """ "1 MB of headers or 10,000 header lines → 431, closed." """
    with dial(tmp_path / "s") as sock:
        try:
            for _ in range(200):
                sock.sendall(b"a: b\r\n" * 1000)
        except OSError:
            pass  # closed while we wrote
        else:
            pytest.fail("a megabyte of headers was taken")
    eventually(lambda: not stand.server.connections)


def test_beyond_the_cap_one_is_told_so_and_those_inside_are_served(
    stand: Stand, tmp_path: Path
) -> None:
    path = tmp_path / "s"
    held = [dial(path) for _ in range(MAX_CONNECTIONS)]
    try:
        eventually(lambda: len(stand.server.connections) == MAX_CONNECTIONS)
        with dial(path) as extra:
            assert read_all(extra).startswith(b"HTTP/1.1 503 ")
        assert (stand.server.accepted, stand.server.refused) == (MAX_CONNECTIONS, 1)
        held[0].sendall(GET)
        assert read_all(held[0]).endswith(b"hello\n")
        eventually(lambda: len(stand.server.connections) == MAX_CONNECTIONS - 1)
        assert ask(path).endswith(b"hello\n")
    finally:
        for sock in held:
            sock.close()


def test_a_thousand_visits_leave_no_descriptor(stand: Stand, tmp_path: Path) -> None:
    ask(tmp_path / "s")
    eventually(lambda: not stand.server.connections)
    before = descriptors()
    for number in range(1000):
        with dial(tmp_path / "s") as sock:
            if number % 3 == 0:
                sock.sendall(GET)
                read_all(sock)
            elif number % 3 == 1:
                sock.sendall(GET[:7])
    eventually(lambda: not stand.server.connections)
    eventually(lambda: descriptors() <= before)


@pytest.mark.parametrize("path", ["/hold", "/big", ""])
def test_slow_clients_are_closed(tmp_path: Path, path: str) -> None:
    """Silent, waiting for a page that does not come, or never reading: all end at the lifetime."""
    stand = Stand(uvloop.new_event_loop, 0.2)
    stand.apply(MetricsConfig(path=str(tmp_path / "s")))
    try:
        with dial(tmp_path / "s") as sock:
            sock.sendall(GET.replace(b"/page", path.encode()) if path else GET[:9])
            eventually(lambda: stand.server.accepted == 1)
            eventually(lambda: not stand.server.connections)
    finally:
        stand.stop()
    assert not stand.trouble


class TestMoves:
    def port(self) -> int:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            return int(free.getsockname()[1])

    def test_to_tcp_and_away(self, stand: Stand, tmp_path: Path) -> None:
        port = self.port()
        with dial(tmp_path / "s") as open_before:
            open_before.sendall(GET[:5])
            eventually(lambda: stand.server.accepted == 1)
            stand.apply(MetricsConfig(port=port))
            assert not (tmp_path / "s").exists()
            with socket.create_connection(("127.0.0.1", port), 10) as sock:
                sock.sendall(GET)
                assert read_all(sock).endswith(b"hello\n")
            # One that was open is served to its end.
            open_before.sendall(GET[5:])
            assert read_all(open_before).endswith(b"hello\n")
        stand.apply(None)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), 10)

    def test_what_was_prepared_can_be_undone(self, stand: Stand, tmp_path: Path) -> None:
        other = tmp_path / "other"
        config = Config(listen=ListenConfig(metrics=MetricsConfig(path=str(other))))
        staged = stand.server.prepare(config)
        assert other.exists()
        stand.server.abandon(staged)
        assert not other.exists()
        mode = Config(
            listen=ListenConfig(metrics=MetricsConfig(path=str(tmp_path / "s"), mode="0600"))
        )
        staged = stand.server.prepare(mode)
        stand.server.abandon(staged)
        assert (tmp_path / "s").stat().st_mode & 0o777 == 0o660
        assert ask(tmp_path / "s").endswith(b"hello\n")

    def test_a_place_that_is_taken(self, stand: Stand, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            for metrics, words in (
                (
                    MetricsConfig(port=port),
                    f"listen.metrics: cannot listen on http://127.0.0.1:{port}",
                ),
                (MetricsConfig(path=str(tmp_path / "file")), "listen.metrics.path: "),
            ):
                with pytest.raises(ApplyError, match=words):
                    stand.server.prepare(Config(listen=ListenConfig(metrics=metrics)))
        assert ask(tmp_path / "s").endswith(b"hello\n")


def test_how_it_is_shown() -> None:
    assert shown(MetricsConfig(port=9)) == "http://127.0.0.1:9"
    assert shown(MetricsConfig(port=9, host="::1")) == "http://[::1]:9"
    assert shown(MetricsConfig(path="/run/s")) == "/run/s"
    assert shown(None) == ""
