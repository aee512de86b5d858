"""The HTTP server on a real socket, on each event loop that the daemon may run on."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edged.config.listen import HttpConfig, ListenConfig
from edged.config.schema import Config, LimitsConfig
from edged.errors import ModelNotFoundError
from edged.generating import INPUTS
from edged.tensors import TensorSpec
from edged.transports.http.endpoint import HttpServer
from tests.fakes.house import ServerThread
from tests.fakes.wire import EchoDoor

INFER = b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]}'


class Pages:
    """Says of everything what it was asked for."""

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}
        self.gate: asyncio.Event | None = None
        self.trouble: Exception | None = None

    def server(self) -> dict[str, Any]:
        if self.trouble is not None:
            raise self.trouble
        return {"name": "fake"}

    def unready(self) -> Mapping[str, str]:
        return self.reasons

    def model(self, name: str, version: str | None) -> dict[str, Any]:
        if name == "nope":
            raise ModelNotFoundError('no model "nope"')
        return {"model": name, "version": version}

    def model_ready(self, name: str, version: str | None) -> dict[str, Any]:
        return {"ready": name, "version": version}

    def config(self, name: str, version: str | None) -> dict[str, Any]:
        return {"config": name, "version": version}

    def statistics(self, name: str | None, version: str | None) -> dict[str, Any]:
        return {"stats": name, "version": version}

    def index(self, *, ready: bool) -> list[dict[str, Any]]:
        return [{"ready": ready}]

    def labels(self, name: str, release: int) -> dict[str, Sequence[str]]:
        return {"x": ("a", "b")}

    def inputs(self, name: str, version: str | None) -> Sequence[TensorSpec]:
        if name == "nope":
            raise ModelNotFoundError('no model "nope"')
        return INPUTS if name == "story" else [TensorSpec("x", "float32", ("batch", 2))]

    def makes_text(self, name: str, version: str | None) -> bool:
        return name == "story"

    async def metrics(self, accept: str) -> tuple[int, bytes, str]:
        if self.gate is not None:
            await self.gate.wait()
        return 200, f"figures for {accept}".encode(), "text/plain"


class Web(ServerThread):
    """An HttpServer in a thread of its own."""

    def __init__(self, path: Path, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self.path = path
        self.door = EchoDoor()
        self.pages = Pages()
        super().__init__(new_loop, HttpServer(self.door, self.pages), "web")

    def start(
        self, max_connections: int = 256, http: HttpConfig | None = None, **limits: Any
    ) -> Web:
        """Listen at its path, or where ``http`` says; once more, it follows a change."""
        http = http or HttpConfig(path=str(self.path))
        config = Config(
            listen=ListenConfig(http=http, max_connections=max_connections),
            limits=LimitsConfig(**limits),
        )

        async def work() -> None:
            await self.server.commit(self.server.prepare(config), config)

        self.run(work())
        return self


class Visitor(http.client.HTTPConnection):
    """Python's own client over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(str(self._path))

    def ask(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, Any]:
        """Status and document; headers by their names with underscores."""
        self.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
        response = self.getresponse()
        self.headers = response.headers
        data = response.read()
        is_json = response.headers.get_content_type() == "application/json"
        return response.status, json.loads(data) if is_json and data else data


def raw(path: Path, *pieces: bytes) -> bytes:
    """Send, and read until the other end closes."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        sock.settimeout(10)
        for piece in pieces:
            try:
                sock.sendall(piece)
            except (BrokenPipeError, ConnectionResetError):
                break
        return drained(sock)


def drained(sock: socket.socket) -> bytes:
    data = b""
    try:
        while more := sock.recv(65536):
            data += more
    except ConnectionResetError:
        pass
    return data
