"""The administrators' socket, with a steward that notes what it is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edged.access.gate import Access
from edged.access.policy import Policy, build_rule
from edged.config.access import RuleConfig
from edged.config.listen import AdminConfig, ListenConfig
from edged.config.schema import Config
from edged.errors import LoadError, ModelNotFoundError
from edged.transports.admin_peer import GRPC
from edged.transports.grpc.endpoint import GrpcServer
from edged.transports.grpc.service import GrpcService
from edged.transports.http.endpoint import HttpServer
from edged.transports.native.uds import UnixServer
from tests.fakes.house import LOOPS, House, eventually
from tests.fakes.web import Pages


class Admin:
    """Notes what it is asked."""

    def __init__(self) -> None:
        self.level = "info"
        self.told: list[str] = []
        self.gate: asyncio.Event | None = None
        self.ended = 0

    def set_level(self, level: str) -> None:
        self.level = level

    def check(self, model: str) -> None:
        if model == "nope":
            raise ModelNotFoundError('no model "nope"')

    async def load(self, model: str) -> None:
        self.check(model)
        if model == "bad":
            raise LoadError("failed to load bad")
        if model == "odd":
            raise ZeroDivisionError
        if model == "slow":
            try:
                self.gate = asyncio.Event()
                await self.gate.wait()
            finally:
                self.ended += 1
        self.told.append(f"load {model}")

    async def unload(self, model: str) -> None:
        self.told.append(f"unload {model}")


class AdminHouse(House):
    """With a second socket, where administrators ask."""

    def __init__(self, path: Path, new_loop: Any) -> None:
        super().__init__(path, new_loop)
        self.admin = Admin()
        gate = self.server.gate
        self.server = UnixServer(self.door, {"status": self.status}, gate, "admin")
        self.http = HttpServer(self.door, Pages(), gate, self.admin)
        self.grpc = GrpcServer(GrpcService(self.door, Pages(), admin=self.admin), gate, "admin")
        self.server.other = self._hear

    def _hear(self, first: bytes) -> asyncio.Protocol:
        return self.grpc.hear() if first.startswith(GRPC) else self.http.hear()

    def config(self, **limits: Any) -> Config:
        made = super().config(**limits)
        admin = AdminConfig(path=str(self.path))
        return Config(listen=ListenConfig(admin=admin), limits=made.limits)

    def stop(self) -> None:
        self.call(self.http.close)
        self.call(self.grpc.close)
        eventually(lambda: not self.http.connections and not self.grpc.connections)
        super().stop()


def allowed(*verbs: str, models: tuple[str, ...] = ("*",)) -> Access:
    rule = RuleConfig(users=("*",), models=models, allow=verbs)  # type: ignore[arg-type]
    return Access(Policy((build_rule(rule, "rules[0]", int, int),), has_admin_door=True))


def administered(loop: str, path: Path) -> Iterator[AdminHouse]:
    """A house that its own user may ask everything, for a fixture; loop is a name of LOOPS."""
    made = AdminHouse(path, LOOPS[loop])
    made.start()
    # Without a rule that says so, even who runs this may do nothing.
    made.call(made.server.gate.follow, allowed("load", "unload", "logging", "trace", "infer"))
    yield made
    made.stop()
    assert made.trouble == []
