"""A server on a real socket, on each event loop that the daemon may run on."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uvloop

from edged.config.listen import ListenConfig, SocketConfig
from edged.config.schema import Config, LimitsConfig
from edged.errors import ModelNotFoundError
from edged.protocol.frames import Buffer, Frame, FrameReader, Limits
from edged.transports.native.uds import UnixServer
from tests.fakes.wire import EchoDoor, joined

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


class ServerThread:
    """The loop and its thread; ``call`` runs something there and waits.

    Args:
        new_loop: makes the event loop.
        server: what is stopped with it; has ``close`` and ``connections``.
        name: of the thread.
    """

    def __init__(
        self, new_loop: Callable[[], asyncio.AbstractEventLoop], server: Any, name: str
    ) -> None:
        self.server = server
        self.trouble: list[dict[str, Any]] = []
        """What was raised where nobody waited for it."""
        self.loop = new_loop()
        self.loop.set_exception_handler(lambda _, context: self.trouble.append(context))
        self._thread = threading.Thread(target=self.loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        async def work() -> Any:
            return function(*arguments)

        return self.run(work())

    def stop(self) -> None:
        self.call(self.server.close)
        eventually(lambda: not self.server.connections)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


class House(ServerThread):
    """A UnixServer in a thread of its own; ``call`` runs something on its loop and waits."""

    def __init__(self, path: Path, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self.path = path
        self.door = EchoDoor()
        self.gate: asyncio.Event | None = None
        calls = {"status": self.status, "fail": self.fail, "hold": self.hold}
        super().__init__(new_loop, UnixServer(self.door, calls), "house")

    async def status(self, arguments: dict[str, Any]) -> Any:
        return {"asked": arguments}

    async def fail(self, arguments: dict[str, Any]) -> Any:
        if arguments:
            raise ModelNotFoundError("no such model")
        raise ZeroDivisionError

    async def hold(self, arguments: dict[str, Any]) -> Any:
        self.gate = asyncio.Event()
        await self.gate.wait()
        return "at last"

    def config(self, **limits: Any) -> Config:
        connections = limits.pop("max_connections", 256)
        return Config(
            listen=ListenConfig(
                socket=SocketConfig(path=str(self.path)), max_connections=connections
            ),
            limits=LimitsConfig(**limits),
        )

    def start(self, passed: socket.socket | None = None, **limits: Any) -> House:
        self.run(self.server.start(self.config(**limits), passed))
        return self


class Peer:
    """A bare socket that speaks frames, and anything else."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # Without a timeout for as long: with one, a full queue at the listener is an error at once.
            self.socket.connect(str(path))
            self.socket.settimeout(10)
        except OSError:
            self.socket.close()
            raise
        self._reader = FrameReader(Limits(body_bytes=1 << 30, head_bytes=1 << 20))
        self._frames: list[Frame] = []

    def send(self, *messages: list[Buffer] | bytes) -> None:
        self.socket.sendall(b"".join(m if isinstance(m, bytes) else joined(m) for m in messages))

    def frame(self) -> Frame:
        """The next frame; AssertionError when the other end closes first."""
        while not self._frames:
            data = self.socket.recv(1 << 16)
            assert data, "the connection was closed"
            self._frames += self._reader.feed(data)
        return self._frames.pop(0)

    def is_closed(self) -> bool:
        """Waits for the other end to close; False when it says something instead."""
        try:
            return not self._frames and self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        self.socket.close()


def eventually(condition: Callable[[], object], limit_s: float = 10.0) -> None:
    give_up = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < give_up, "what was waited for did not happen"
        time.sleep(0.001)


def houses(loop: str, path: Path) -> Iterator[House]:
    """For a fixture: a house that is stopped, and in which nothing went wrong unseen."""
    made = House(path, LOOPS[loop])
    yield made
    made.stop()
    assert not made.trouble, made.trouble


Connect = Callable[[], Peer]
Run = Callable[..., None]
"""What fixtures give: ``peer`` of tests/transports/native, and ``run`` of tests/clients."""
