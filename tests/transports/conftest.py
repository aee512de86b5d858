"""A running session with bindings before a real broker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from edged.config.binding import BindingConfig
from edged.transports.bindings.bindings import Bindings
from edged.transports.mqtt.connection import SessionOptions
from edged.transports.mqtt.native import NativeSession
from edged.transports.mqtt.paho import MqttSession
from tests.fakes.broker import Mosquitto
from tests.fakes.door import FakeDoor

VIB = BindingConfig(name="vib", from_="in/{site}", to="out/{site}", model="sum")


async def until(condition: Callable[[], Any], timeout_s: float = 15) -> None:
    """Wait for a condition, with a bound."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.005)


class Rig:
    """Session and bindings with a dataplane without models; ``async with Rig(port) as rig:``."""

    make_session: type[MqttSession | NativeSession] = MqttSession

    def __init__(
        self,
        port: int,
        *configs: BindingConfig,
        hold: bool = False,
        wait: bool = True,
        bindings: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        words = {
            "client_id": "edged-n",
            "base": "edged/n",
            "host": "127.0.0.1",
            "connect_timeout_s": 5.0,
        }
        self.session = self.make_session(SessionOptions(port=port, **words | options))
        self.door = FakeDoor(hold=hold)
        self.configs = configs or (VIB,)
        self.bindings: Bindings
        self._more = bindings or {}
        self._wait = wait

    async def __aenter__(self) -> Rig:  # noqa: PYI034 - typing.Self is 3.11
        self.executor = ThreadPoolExecutor(1)
        self.bindings = Bindings(
            self.session, self.door, base="edged/n", executor=self.executor, **self._more
        )
        self.bindings.swap(self.bindings.prepare(self.configs))
        self.bindings.start()
        if self._wait:
            await self.connected()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.bindings.drain(0)
        self.executor.shutdown()

    async def connected(self, times: int = 1) -> None:
        """Wait until connected for that many times, and everything said at connecting is heard."""
        await until(lambda: self.stats["connections"] >= times)
        await until(lambda: self.bindings.problem is None and not self.bindings._waiters)

    @property
    def stats(self) -> dict[str, Any]:
        return self.bindings.stats()

    @property
    def vib(self) -> dict[str, int]:
        return self.stats["bindings"]["vib"]


@pytest.fixture
def broker(tmp_path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path, "max_inflight_messages 100", persistent=True) as running:
        yield running


@pytest.fixture(params=["paho", "native"])
def client(request, monkeypatch) -> str:
    """Which client's session the rig has: one test, both clients."""
    made = {"paho": MqttSession, "native": NativeSession}
    monkeypatch.setattr(Rig, "make_session", made[request.param])
    return request.param
