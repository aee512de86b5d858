"""The gRPC server on a loop in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import uvloop

from edged.config.listen import GrpcConfig, ListenConfig
from edged.config.schema import Config, LimitsConfig
from edged.transports.grpc.endpoint import GrpcServer
from edged.transports.grpc.service import GrpcService
from tests.fakes.web import Pages
from tests.fakes.wire import EchoDoor


def config(place: GrpcConfig | None, **limits: Any) -> Config:
    return Config(listen=ListenConfig(grpc=place), limits=LimitsConfig(**limits))


class Rpc:
    """A GrpcServer and its loop."""

    def __init__(self) -> None:
        self.door, self.pages = EchoDoor(), Pages()
        self.server = GrpcServer(GrpcService(self.door, self.pages))
        self.trouble: list[dict[str, Any]] = []
        self._loop = uvloop.new_event_loop()
        self._loop.set_exception_handler(lambda _, context: self.trouble.append(context))
        self._thread = threading.Thread(target=self._loop.run_forever, name="rpc", daemon=True)
        self._thread.start()

    def start(self, path: Path, **limits: Any) -> Rpc:
        self.apply(config(GrpcConfig(path=str(path)), **limits))
        return self

    def apply(self, wanted: Config) -> None:
        async def work() -> None:
            await self.server.commit(self.server.prepare(wanted), wanted)

        self.run(work())

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def call(self, function: Any, *arguments: Any) -> Any:
        async def work() -> Any:
            return function(*arguments)

        return self.run(work())

    def stop(self) -> None:
        async def work() -> None:
            self.server.close()
            await self.server.closed(10)

        self.run(work())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
