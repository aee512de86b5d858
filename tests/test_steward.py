"""What administrators ask: memory comes and goes, the configuration stays the word."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from edged import steward as steward_module
from edged.config.memory import ModelMemoryConfig
from edged.config.schema import Config, LogConfig, ModelConfig
from edged.errors import (
    ConfigError,
    DeadlineExceededError,
    EdgedError,
    InvalidRequestError,
    LoadError,
    ModelNotFoundError,
    ModelNotReadyError,
)
from edged.messages import InferRequest, PrepareRequest
from edged.serving.dataplane import Dataplane, ServingTable
from edged.serving.lifecycle import NEVER_NS, State
from edged.serving.manager import Desired, Manager
from edged.serving.release import ServedRelease
from edged.serving.router import Route
from edged.steward import Steward
from edged.tensors import TensorSpec
from tests.fakes.clock import on_loop, until
from tests.fakes.loader import make_loader
from tests.fakes.model import FakeRuntime, FakeStored, doubler

X = np.ones((1, 4), np.float32)
SPECS = (TensorSpec("x", "float32", ("batch", 4)),)


class House:
    """A manager with a fake runtime, a table, and who is asked."""

    def __init__(self) -> None:
        self.runtime = FakeRuntime()
        self.changes = 0
        self.manager = Manager(make_loader(lambda _: self.runtime), 200_000, self._changed)
        self.dataplane = Dataplane()
        self.reloads = 0
        self.steward = Steward(self.manager, self.dataplane, self._reload, "info")

    def _changed(self) -> None:
        self.changes += 1

    def _reload(self) -> None:
        self.reloads += 1

    async def serve(self, *numbers: int, **memory: Any) -> ServedRelease:
        config = ModelConfig(bundle="b", memory=ModelMemoryConfig(**memory))
        wanted = [
            Desired(f"gate{number}", FakeStored(doubler("gate", number)), config)
            for number in numbers
        ]
        self.manager.want(wanted)
        await self.manager.settled([one.key for one in wanted])
        releases = {one.key.digest: self.manager.get(one.key) for one in wanted}
        by_number = {release.number: release for release in releases.values()}
        self.dataplane.swap(ServingTable(1, {"gate": Route("gate", by_number)}))
        return by_number[max(numbers)]

    def ask(self) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        request = InferRequest("gate", {"x": X})
        self.dataplane.submit(request, lambda response, _: future.set_result(response))
        return future


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    level = logging.getLogger("edged").level
    yield made
    logging.getLogger("edged").setLevel(level)
    if made.runtime.gate is not None:
        made.runtime.gate.set()
    made.manager._thread.shutdown(wait=True)


@on_loop
async def test_out_of_memory_and_back(house: House):
    release = await house.serve(1, 2)
    await house.steward.unload("gate")
    assert {one.state for one in house.manager.releases()} == {State.ASLEEP}
    assert "administrator" in release.reason
    assert release.told_state == "unloaded"
    await house.steward.unload("gate")
    assert release.evictions == 1
    await house.steward.load("gate")
    assert release.state is State.READY
    assert all(one.answers for one in house.manager.releases()), "the others sleep, and are served"
    await house.steward.load("gate")
    assert release.loads == 2


@on_loop
async def test_what_is_unloaded_answers_nobody_until_a_load(house: House):
    release = await house.serve(1)
    changes = house.changes
    await house.steward.unload("gate")
    assert house.changes > changes, "whoever shows who is ready is told"
    for _ in range(2):
        error = (await house.ask()).error
        assert isinstance(error, ModelNotReadyError)
        assert "unloaded: an administrator unloaded it; edged load brings it back" in error.message
    house.manager.step()
    assert (release.state, release.loads) == (State.ASLEEP, 1)
    await house.steward.load("gate")
    assert (await house.ask()).error is None


@on_loop
async def test_what_was_prepared_for_it_is_looked_up_again(house: House):
    await house.serve(1)
    call = house.dataplane.prepare(PrepareRequest("gate", SPECS))
    assert call.is_current
    await house.steward.unload("gate")
    assert not call.is_current
    await house.steward.load("gate")
    assert (await house.ask()).error is None


@on_loop
async def test_another_configuration_leaves_it_unloaded(house: House):
    release = await house.serve(1)
    await house.steward.unload("gate")
    house.manager.want(house.manager.wanted())
    release.configure(ModelConfig(bundle="b", memory=ModelMemoryConfig(pinned=True)))
    house.manager.step()
    assert (release.state, release.answers) == (State.ASLEEP, False)
    await house.serve(1, 2)
    assert not release.answers
    assert (await house.ask()).error is None, "another release is loaded as configured"


@on_loop
async def test_what_was_asked_before_is_answered_first(house: House):
    release = await house.serve(1)
    release.running += 1
    asked = asyncio.ensure_future(house.steward.unload("gate"))
    await until(lambda: release.is_dismissed)
    assert release.state is State.READY
    assert isinstance((await house.ask()).error, ModelNotReadyError)
    release.running -= 1
    await asked
    assert release.evictions == 1


@on_loop
async def test_a_load_in_the_middle_of_an_unload(house: House):
    release = await house.serve(1)
    release.running += 1
    asked = asyncio.ensure_future(house.steward.unload("gate"))
    await until(lambda: release.is_dismissed)
    await house.steward.load("gate")
    release.running -= 1
    await asked
    assert (release.state, release.evictions) == (State.READY, 0)
    assert (await house.ask()).error is None


@on_loop
async def test_one_that_failed_is_not_tried_again_until_a_load(house: House):
    house.runtime.error = LoadError("no such operator")
    release = await house.serve(1)
    await house.steward.unload("gate")
    assert release.retry_at_ns == NEVER_NS
    house.runtime.error = None
    await house.steward.load("gate")
    assert release.state is State.READY


@on_loop
async def test_one_whose_device_is_lost_cannot_be_unloaded(house: House):
    release = await house.serve(1)
    release.is_parting = True
    with pytest.raises(ModelNotReadyError, match="failed to unload"):
        await house.steward.unload("gate")
    assert not release.is_dismissed


@on_loop
async def test_who_runs_too_long_stays(house: House, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(steward_module, "_LONGEST_S", 0.02)
    release = await house.serve(1)
    release.running += 1
    with pytest.raises(DeadlineExceededError, match="still runs"):
        await house.steward.unload("gate")
    release.running -= 1
    assert (release.state, release.is_held, release.is_parting) == (State.READY, False, False)
    assert (await house.ask()).error is None


@on_loop
async def test_who_asked_goes_away(house: House):
    release = await house.serve(1)
    release.running += 1
    asked = asyncio.ensure_future(house.steward.unload("gate"))
    await until(lambda: release.is_dismissed)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    release.running -= 1
    assert (await house.ask()).error is None
    assert release.evictions == 0


@on_loop
async def test_what_the_configuration_says_stays(house: House):
    release = await house.serve(1, pinned=True)
    with pytest.raises(ConfigError, match=r"models\.gate\.memory\.pinned"):
        await house.steward.unload("gate")
    assert release.state is State.READY
    for ask in (house.steward.load, house.steward.unload):
        with pytest.raises(ModelNotFoundError, match="nope"):
            await ask("nope")
    house.dataplane.swap(ServingTable(1, {"gate": Route("gate", {})}))
    with pytest.raises(LoadError, match="failed to load"):
        await house.steward.load("gate")


@on_loop
async def test_a_lazy_one_is_loaded_before_its_first_request(house: House):
    release = await house.serve(1, load="lazy")
    assert release.state is State.ASLEEP
    await asyncio.gather(house.steward.load("gate"), house.steward.load("gate"))
    assert (release.state, release.loads) == (State.READY, 1)


@on_loop
async def test_one_that_failed_is_tried_again_at_once(house: House):
    house.runtime.error = LoadError("no such operator")
    release = await house.serve(1)
    assert release.state is State.FAILED
    with pytest.raises(LoadError, match=r"failed to load.*no such operator"):
        await house.steward.load("gate")
    house.runtime.error = None
    await house.steward.load("gate")
    assert release.state is State.READY


@on_loop
async def test_one_in_quarantine_stays_there(house: House):
    house.runtime.error = LoadError("it ended its process")
    release = await house.serve(1)
    release.is_quarantined = True
    loads = release.loads
    with pytest.raises(LoadError, match="it ended its process"):
        await house.steward.load("gate")
    assert release.loads == loads


@on_loop
async def test_calls(house: House):
    await house.serve(1)
    calls = house.steward.calls()
    assert await calls["reload"]({}) == {"generation": 1}
    assert house.reloads == 1
    assert await calls["unload"]({"model": "gate"}) == {}
    assert await calls["load"]({"model": "gate"}) == {}
    for arguments in ({}, {"model": 3}, {"model": ["gate"]}):
        with pytest.raises(EdgedError):
            await calls["load"](arguments)
    assert await calls["logging"]({}) == {"level": "info", "configured": "info"}
    assert await calls["logging"]({"level": "debug"}) == {"level": "debug", "configured": "info"}
    for level in ("loud", 3, ["info"], ""):
        with pytest.raises(InvalidRequestError, match="expected one of error"):
            await calls["logging"]({"level": level})


@on_loop
async def test_another_level_ends_the_ways_that_were_bound_at_the_last_one(house: House):
    """At debug each request has its line; a lone asker's would have had none."""
    await house.serve(1)
    calls = [house.dataplane.prepare(PrepareRequest("gate", SPECS))]
    house.steward.set_level("debug")
    calls.append(house.dataplane.prepare(PrepareRequest("gate", SPECS)))
    house.steward.follow(Config(log=LogConfig(level="warning")))
    assert not any(call.is_current for call in calls)
    call = house.dataplane.prepare(PrepareRequest("gate", SPECS))
    house.steward.set_level("warning")
    house.steward.follow(Config(log=LogConfig(level="warning")))
    assert call.is_current, "nothing changed"


def test_the_level_holds_until_the_configured_one_changes(house: House):
    logger, steward = logging.getLogger("edged"), house.steward
    steward.set_level("debug")
    assert logger.level == logging.DEBUG
    steward.follow(Config(log=LogConfig(level="info")))
    assert logger.level == logging.DEBUG, "a reload of something else"
    steward.follow(Config(log=LogConfig(level="warning")))
    assert (logger.level, steward.level) == (logging.WARNING, "warning")
