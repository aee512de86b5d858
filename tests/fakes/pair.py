"""Two runtimes of a list, the first of which can go and come back, and a manager over them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from edged.config.schema import ModelConfig
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

    def breaking(self, error: Callable[[], BaseException]) -> Callable[..., Arrays]:
        """A function of a session that fails from now on."""

        def run(_: Mapping[str, Any]) -> Arrays:
            raise error()

        return run
