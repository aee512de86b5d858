"""Two runtimes of a list, the first of which can go and come back, and a manager over them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import numpy as np

from edged.config.schema import ModelConfig
from edged.errors import DeviceLostError
from edged.messages import InferRequest, InferResponse
from edged.serving.dataplane import Dataplane, ServingTable
from edged.serving.lifecycle import ReleaseKey
from edged.serving.manager import Desired, Manager
from edged.serving.release import ServedRelease
from edged.serving.router import Route
from edged.telemetry.health import Health
from tests.fakes.loader import make_loader
from tests.fakes.model import Arrays, FakeRuntime, FakeStored, doubler

FIRST, SECOND = "openvino", "onnxruntime"


class Pair:
    """``first`` is wanted and ``second`` stands in."""

    def __init__(self, inline_ns: int = 200_000, budgets: Mapping[str, int] | None = None) -> None:
        self.first, self.second = FakeRuntime(), FakeRuntime()
        self.first.name, self.second.name = FIRST, SECOND
        made = {FIRST: self.first, SECOND: self.second}
        self.loader = make_loader(made.__getitem__)
        self.changes = 0
        self.manager = Manager(self.loader, inline_ns, self.note, budgets)
        self.health = self.manager.recovery.health = Health()
        self.manager.recovery.returning.problem_of = lambda name: made[name].problem
        self.plane = Dataplane()
        self.key: ReleaseKey | None = None

    def note(self) -> None:
        self.changes += 1

    @property
    def release(self) -> ServedRelease:
        assert self.key is not None
        return self.manager.get(self.key)

    async def start(self, **config: Any) -> ServedRelease:
        """Want one release with both runtimes, and route to it."""
        section = ModelConfig(**{"bundle": "b", "runtime": (FIRST, SECOND), "warmup": 0, **config})
        item = Desired("gate1", FakeStored(doubler()), section)
        self.key = item.key
        self.manager.want([item])
        await self.manager.settled([item.key])
        self.plane.swap(ServingTable(1, {"gate": Route("gate", {1: self.release})}))
        return self.release

    def ask(self, value: float = 1.0, **more: Any) -> asyncio.Future[InferResponse]:
        """One request of one row."""
        future: asyncio.Future[InferResponse] = asyncio.get_running_loop().create_future()
        x = np.full((1, 4), value, np.float32)
        self.plane.submit(
            InferRequest("gate", {"x": x}, **more), lambda answer, _: future.set_result(answer)
        )
        return future

    def lose(self) -> None:
        """The device of the first runtime is gone: its sessions fail, and it takes no model."""
        for session in self.first.sessions:
            session.function = gone
        self.first.problem = "no GPU is visible"

    def find(self) -> None:
        """It is back; sessions that lost it stay lost."""
        self.first.problem = ""


def gone(_: Mapping[str, Any]) -> Arrays:
    """A run on a device that is not there any more."""
    raise DeviceLostError('model "gate" failed while running: CUDA failure 719')
