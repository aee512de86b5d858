"""All listeners move, or none; a probe's listener never keeps a device from serving."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from edged.access.gate import Gate
from edged.config.listen import (
    GrpcConfig,
    HttpConfig,
    ListenConfig,
    MetricsConfig,
    SharedMemoryConfig,
    SocketConfig,
)
from edged.config.schema import Config
from edged.errors import ApplyError
from edged.listeners import listeners
from edged.listeners.listeners import Listeners
from edged.telemetry.exposition import MISSING
from edged.telemetry.health import Health
from edged.telemetry.lag import LoopLag


class Part:
    """Stands for either listener: notes what it is told, refuses when told to."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.refuse: Exception | None = None
        self.break_commit: OSError | None = None
        self.place: Any = None
        self.path = ""
        self.other: Any = None
        self.refreshed = 0

    def _maybe(self) -> None:
        if self.refuse is not None:
            raise self.refuse

    async def start(self, config: Config) -> None:
        self._maybe()

    async def apply(self, config: Config) -> None:
        self._maybe()
        self.told.append("applied")

    def prepare(self, config: Config) -> Any:
        self._maybe()
        self.told.append("prepared")
        return "staged"

    def abandon(self, staged: Any) -> None:
        self.told.append("abandoned")

    async def commit(self, staged: Any, config: Config) -> None:
        if self.break_commit is not None:
            raise self.break_commit
        self.told.append("committed")

    def refresh(self, config: Config) -> None:
        self._maybe()
        self.refreshed += 1

    def close(self) -> None:
        self.told.append("closed")


class Box:
    def __init__(self) -> None:
        self.server, self.admin, self.scrape = Part(), Part(), Part()
        self.health, self.lag = Health(), LoopLag()
        server: Any = self.server
        scrape: Any = self.scrape
        nothing: Any = None
        admin: Any = self.admin
        self.listeners = Listeners(
            server,
            admin,
            scrape,
            nothing,
            nothing,
            health=self.health,
            lag=self.lag,
            gate=Gate(),
            steward=nothing,
        )


def config(port: int | None) -> Config:
    metrics = MetricsConfig(port=port) if port else None
    return Config(listen=ListenConfig(metrics=metrics))


def test_both_move_and_the_lag_is_measured_while_somebody_may_scrape() -> None:
    async def work() -> None:
        box = Box()
        await box.listeners.start_scrape(config(None))
        assert box.lag.times is None
        await box.listeners.apply(config(1))
        assert box.scrape.told[-2:] == ["prepared", "committed"]
        assert box.server.told == ["applied"]
        assert box.lag.times is not None
        await box.listeners.apply(config(None))
        assert box.lag.times is None
        box.listeners.close_scrape()
        assert box.scrape.told[-1] == "closed"

    asyncio.run(work())


def test_the_socket_refuses_so_the_figures_stay_where_they_are() -> None:
    async def work() -> None:
        box = Box()
        await box.listeners.start_scrape(config(None))
        box.scrape.told.clear()
        box.server.refuse = ApplyError("in use")
        with pytest.raises(ApplyError):
            await box.listeners.apply(config(1))
        assert box.scrape.told == ["prepared", "abandoned"]
        assert box.lag.times is None

    asyncio.run(work())


def test_the_figures_refuse_so_the_socket_stays() -> None:
    async def work() -> None:
        box = Box()
        await box.listeners.start_scrape(config(None))
        box.scrape.refuse = ApplyError("in use")
        with pytest.raises(ApplyError):
            await box.listeners.apply(config(1))
        assert box.server.told == []
        assert box.health.degradations() == {}

    asyncio.run(work())


def test_what_could_not_be_had_at_boot_refuses_no_other_change() -> None:
    async def work() -> None:
        box = Box()
        box.scrape.refuse = ApplyError("in use")
        await box.listeners.start_scrape(config(1))
        assert box.health.degradations() == {"metrics": "in use"}
        await box.listeners.apply(config(1))
        assert box.server.told == ["applied"]
        with pytest.raises(ApplyError):
            await box.listeners.apply(config(2))
        box.scrape.refuse = None
        await box.listeners.apply(config(1))
        assert box.health.degradations() == {}

    asyncio.run(work())


def test_a_listener_that_was_bound_and_cannot_begin_is_a_degradation() -> None:
    async def work() -> None:
        box = Box()
        box.scrape.break_commit = OSError(24, "Too many open files")
        await box.listeners.apply(config(1))
        assert "Too many open files" in box.health.degradations()["metrics"]
        assert box.scrape.told[-1] == "abandoned"

    asyncio.run(work())


def test_a_listener_without_the_package_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        box = Box()
        monkeypatch.setattr(listeners, "is_available", lambda: False)
        await box.listeners.apply(config(1))
        assert box.health.degradations() == {"metrics": MISSING}
        await box.listeners.apply(config(None))
        assert box.health.degradations() == {}

    asyncio.run(work())


def grpc_config(port: int | None) -> Config:
    grpc = GrpcConfig(port=port, insecure=True) if port else None
    return Config(listen=ListenConfig(grpc=grpc))


class GrpcPart(Part):
    """Stands for the gRPC server."""

    def close_listener(self) -> None:
        self.told.append("listener closed")

    async def closed(self, timeout_s: float) -> None:
        self.told.append(timeout_s)


class TestGrpc:
    def test_it_is_made_when_it_is_wanted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        made: list[GrpcPart] = []
        monkeypatch.setattr(
            listeners, "_grpc_server", lambda *_: made.append(GrpcPart()) or made[-1]
        )

        async def work() -> None:
            box = Box()
            await box.listeners.start_web(grpc_config(None))
            await box.listeners.apply(grpc_config(None))
            assert made == []
            await box.listeners.apply(grpc_config(1))
            assert made[0].told == ["prepared", "committed"]
            box.server.refuse = ApplyError("no")
            with pytest.raises(ApplyError):
                await box.listeners.apply(grpc_config(2))
            assert made[0].told[2:] == ["prepared", "abandoned"]
            box.listeners.close_web_listeners()
            await box.listeners.close_web(3)
            assert made[0].told[4:] == ["listener closed", "closed", 3]

        asyncio.run(work())

    def test_one_that_cannot_be_had(self, monkeypatch: pytest.MonkeyPatch) -> None:
        part = GrpcPart()
        part.refuse = ApplyError("taken")
        monkeypatch.setattr(listeners, "_grpc_server", lambda *_: part)

        async def work() -> None:
            box = Box()
            # A device whose port is taken serves all the same.
            await box.listeners.start_web(grpc_config(1))
            assert "taken" in str(box.health.degradations())
            await box.listeners.apply(grpc_config(1))
            with pytest.raises(ApplyError):
                await box.listeners.apply(grpc_config(2))
            part.refuse = None
            await box.listeners.apply(grpc_config(2))
            assert not box.health.degradations()

        asyncio.run(work())

    def test_without_grpcio(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "edged.transports.grpc.endpoint", None)

        async def work() -> None:
            box = Box()
            with pytest.raises(ApplyError, match=r"install edged\[grpc\]"):
                await box.listeners.apply(grpc_config(1))
            assert box.server.told == []

        asyncio.run(work())


def with_http() -> Config:
    return Config(listen=ListenConfig(http=HttpConfig(path="/run/h")))


def test_what_changed_under_the_same_configuration() -> None:
    """Certificates are read again, and a place that could not be had is tried again."""

    async def work() -> None:
        box = Box()
        await box.listeners.refresh(Config())  # HTTP was never wanted
        http: Any = Part()
        box.listeners._http.server = http
        http.refuse = ApplyError("the key is unreadable")
        await box.listeners.refresh(with_http())
        assert box.health.degradations() == {"http": "the key is unreadable"}
        http.refuse = None
        await box.listeners.refresh(with_http())
        assert http.told == ["prepared", "committed"]
        http.place = with_http().listen.http
        http.refuse = ApplyError("no PEM")
        await box.listeners.refresh(with_http())
        assert box.health.degradations() == {"tls": "no PEM; those from before are used"}
        http.refuse = None
        await box.listeners.refresh(with_http())
        assert http.refreshed == 1
        assert box.health.degradations() == {}

    asyncio.run(work())


def test_figures_whose_port_was_taken_are_tried_again() -> None:
    async def work() -> None:
        box = Box()
        box.scrape.refuse = ApplyError("in use")
        await box.listeners.start_scrape(config(1))
        await box.listeners.refresh(config(1))
        assert box.health.degradations() == {"metrics": "in use"}
        box.scrape.refuse = None
        await box.listeners.refresh(config(1))
        assert box.scrape.told == ["prepared", "committed"]
        assert box.health.degradations() == {}
        assert box.lag.times is not None
        box.scrape.place = config(1).listen.metrics
        await box.listeners.refresh(config(1))
        assert box.scrape.told == ["prepared", "committed"]
        box.listeners.close_scrape()

    asyncio.run(work())


def test_the_socket_of_administrators_is_tried_again() -> None:
    async def work() -> None:
        box, wanted = Box(), Config(listen=ListenConfig(admin=SocketConfig(path="/run/a")))
        box.admin.refuse = ApplyError("no such folder")
        await box.listeners.refresh(wanted)
        assert box.admin.told == [], "not before it was started"
        await box.listeners.start_admin(wanted)
        await box.listeners.refresh(wanted)
        assert box.health.degradations() == {"admin": "no such folder"}
        box.admin.refuse = None
        await box.listeners.refresh(wanted)
        assert box.health.degradations() == {}
        assert box.admin.told == ["applied"]
        box.admin.path = "/run/a"
        await box.listeners.refresh(wanted)
        assert box.admin.told == ["applied"]

    asyncio.run(work())


def test_what_changed_for_grpc() -> None:
    async def work() -> None:
        box = Box()
        grpc: Any = Part()
        box.listeners._grpc.server = grpc
        grpc.refuse = ApplyError("the key is unreadable")
        await box.listeners.refresh(grpc_config(1))
        assert box.health.degradations() == {"grpc": "the key is unreadable"}
        grpc.refuse = None
        await box.listeners.refresh(grpc_config(1))
        assert grpc.told == ["prepared", "committed"]
        grpc.place = grpc_config(1).listen.grpc
        grpc.refuse = ApplyError("no PEM")
        await box.listeners.refresh(grpc_config(1))
        assert box.health.degradations() == {"grpc_tls": "no PEM; those from before are used"}
        grpc.refuse = None
        await box.listeners.refresh(grpc_config(1))
        assert grpc.refreshed == 1
        assert box.health.degradations() == {}

    asyncio.run(work())


def test_memory_by_name_is_one_for_http_and_grpc_and_follows_a_reload() -> None:
    async def work() -> None:
        box = Box()
        memory = box.listeners._memory
        assert not memory.is_on
        await box.listeners.start_web(
            Config(listen=ListenConfig(shared_memory=SharedMemoryConfig()))
        )
        assert memory.is_on
        await box.listeners.apply(Config())
        assert not memory.is_on
        await box.listeners.apply(Config(listen=ListenConfig(shared_memory=SharedMemoryConfig())))
        assert memory.is_on

    asyncio.run(work())
