"""What runs is brought to what should run; nothing that fails stops anything."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from edged.config.schema import (
    BatchingConfig,
    Config,
    ModelConfig,
    ReservedConfig,
    SchedulingConfig,
)
from edged.errors import LoadError, QuarantinedError
from edged.messages import InferRequest
from edged.serving import lifecycle as lifecycle_module
from edged.serving import manager as manager_module
from edged.serving.dataplane import Dataplane, ServingTable
from edged.serving.lifecycle import NEVER_NS, State
from edged.serving.manager import Desired, Manager
from edged.serving.release import ServedRelease
from edged.serving.router import Route
from edged.workers.blame import Blame
from tests.fakes.clock import on_loop, turns, until
from tests.fakes.loader import make_loader
from tests.fakes.model import FakeRuntime, FakeStored, doubler
from tests.fakes.worker import ThreadProcess, Workers

MINUTE_NS = 60 * 10**9


def want(number: int = 1, name: str = "gate", **stored) -> Desired:
    made = FakeStored(doubler(name, number), **stored)
    return Desired(f"{name}{number}", made, ModelConfig(bundle="b"))


class House:
    """A manager with a fake runtime, and the states it went through."""

    def __init__(self) -> None:
        self.runtime = FakeRuntime()
        self.seen: list[dict[str, str]] = []
        self.manager = Manager(make_loader(lambda _: self.runtime), 200_000, self.note)

    def note(self) -> None:
        states = self.states()
        if not self.seen or self.seen[-1] != states:
            self.seen.append(states)

    def states(self) -> dict[str, str]:
        return {r.key.digest: r.state.value for r in self.manager.releases()}

    async def want(self, *desired: Desired) -> None:
        self.manager.want(desired)
        await self.manager.settled([item.key for item in desired])


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    if made.runtime.gate is not None:
        made.runtime.gate.set()
    made.manager._thread.shutdown(wait=True)


@on_loop
async def test_loads_warms_and_serves(house: House):
    changes = []
    await house.want(want(1), want(2), want(1, "door"))
    assert house.states() == {"gate1": "ready", "gate2": "ready", "door1": "ready"}
    assert sorted(house.runtime.loads) == ["door", "gate", "gate"]
    release = house.manager.get(want(2).key)
    assert (release.runtime, release.number) == ("onnxruntime", 2)
    assert release.typical_run_ns > 0
    assert house.seen[0] == {"gate1": "new", "gate2": "loading", "door1": "new"} or house.seen
    assert not changes
    house.manager.stop()
    await until(lambda: all(session.closed for session in house.runtime.sessions))


@on_loop
async def test_a_configuration_gives_out_the_device(house: House):
    await house.want(want())
    (release,) = house.manager.releases()
    ((name, slots),) = house.manager.devices.items()
    assert (name, release.slots) == ("cpu", slots)
    batching = BatchingConfig(instances=5)
    item = want()
    item = Desired(item.digest, item.stored, ModelConfig(bundle="b", batching=batching))
    scheduling = SchedulingConfig(slots=3, reserved=ReservedConfig(high=1))
    house.manager.follow(
        [item], is_given_anew=house.manager.schedule(Config(scheduling=scheduling))
    )
    assert (slots.rules.slots, release.instances) == (3, 2)
    item = Desired(
        item.digest, item.stored, ModelConfig(bundle="b", batching=batching, priority="high")
    )
    house.manager.follow(
        [item], is_given_anew=house.manager.schedule(Config(scheduling=scheduling))
    )
    assert (release.rank, release.instances, release.turn.is_ranked) == (0, 3, True)
    house.manager.stop()


@on_loop
async def test_only_what_changed_is_configured(house: House, monkeypatch: pytest.MonkeyPatch):
    """Of hundreds of models most stay as they were, and the loop answers nobody meanwhile."""
    await house.want(want(1), want(1, "door"))
    house.manager.follow([want(1), want(1, "door")], is_given_anew=house.manager.schedule(Config()))
    configured: list[str] = []
    follow = ServedRelease.configure

    def configure(release: ServedRelease, config: ModelConfig) -> None:
        configured.append(release.key.model)
        follow(release, config)

    monkeypatch.setattr(ServedRelease, "configure", configure)
    door = want(1, "door")
    changed = Desired(door.digest, door.stored, ModelConfig(bundle="b", priority="high"))
    house.manager.follow([want(1), changed], is_given_anew=house.manager.schedule(Config()))
    assert configured == ["door"]
    assert house.manager.get(changed.key).rank == 0
    # Slots are of the device: then everybody looks anew how many runs it may have at once.
    house.manager.follow(
        [want(1), changed],
        is_given_anew=house.manager.schedule(Config(scheduling=SchedulingConfig(slots=7))),
    )
    assert configured == ["door", "gate", "door"]


@on_loop
async def test_the_thread_that_loads_is_never_another(house: House):
    """Workers that serve were started by it, and would end with it (``worker.confine``)."""

    class Anything(BaseException):
        pass

    threads: list[int] = []
    errors = [LoadError("no"), MemoryError(), Anything(), QuarantinedError("no"), None]
    load = house.runtime.load

    def note(artefact: object) -> object:
        threads.append(threading.get_native_id())
        house.runtime.error = errors[len(threads) - 1]
        return load(artefact)

    house.runtime.load = note
    for number in range(1, len(errors) + 1):
        await house.want(want(number))
    assert house.states()["gate5"] == "ready"
    assert len(threads) == len(errors)
    assert set(threads) == {house.manager._thread.submit(threading.get_native_id).result(10)}


@on_loop
async def test_workers_are_ended_before_the_thread_that_started_them(house: House):
    await house.want(want())
    order: list[str] = []
    release, thread = house.manager.get(want().key), house.manager._thread
    close, shutdown = release.close, thread.shutdown
    release.close = lambda: (order.append("release"), close())
    thread.shutdown = lambda **options: (order.append("thread"), shutdown(**options))
    house.manager.stop()
    assert order == ["release", "thread"]


@on_loop
async def test_one_load_at_a_time_highest_first(house: House):
    house.runtime.gate = threading.Event()
    house.manager.want([want(1), want(3), want(2)])
    await until(lambda: house.runtime.loads)
    assert house.states() == {"gate1": "new", "gate3": "loading", "gate2": "new"}
    house.runtime.gate.set()
    await house.manager.settled([want(n).key for n in (1, 2, 3)])
    loading = [s for s in house.seen if list(s.values()).count("loading") > 1]
    assert not loading
    house.manager.stop()


@on_loop
async def test_models_load_in_the_order_of_the_configuration(house: House):
    """Not in one that changes from start to start: what a start does can be seen again."""
    names = ["pump", "axle", "door", "belt", "crane", "fan"]
    await house.want(*(want(1, name) for name in names))
    assert house.runtime.loads == names


@on_loop
async def test_the_loader_does_not_block_the_loop(house: House):
    """A neighbour is served while a load takes its time."""
    await house.want(want(1))
    plane = Dataplane()
    plane.swap(ServingTable(1, {"gate": Route("gate", {1: house.manager.get(want(1).key)})}))
    house.runtime.gate = threading.Event()
    house.manager.want([want(1), want(2)])
    await until(lambda: len(house.runtime.loads) == 2)
    answers = []
    x = np.ones((1, 4), np.float32)
    house.manager.get(want(1).key).typical_run_ns = 100
    for _ in range(20):
        plane.submit(InferRequest("gate", {"x": x}), lambda r, _: answers.append(r.error))
        await turns()
    assert answers == [None] * 20
    assert house.states()["gate2"] == "loading"
    house.runtime.gate.set()
    await house.manager.settled([want(2).key])
    house.manager.stop()


@on_loop
async def test_golden_mismatch_fails_with_reason_and_for_good(house: House):
    """What a bundle holds does not change by waiting: no load each minute for ever."""
    await house.want(want(1, off_by=1.0), want(2))
    assert house.states() == {"gate1": "failed", "gate2": "ready"}
    release = house.manager.get(want(1).key)
    assert "does not reproduce the golden samples" in release.reason
    assert release.failures == 1
    assert release.retry_at_ns == NEVER_NS
    assert [session.closed for session in house.runtime.sessions].count(1) == 1
    house.manager.stop()


@on_loop
async def test_what_the_loader_raises_is_contained(house: House, caplog: pytest.LogCaptureFixture):
    house.runtime.error = ZeroDivisionError("a backend's bug")
    await house.want(want(1))
    assert house.manager.get(want(1).key).reason == "loading raised ZeroDivisionError; see the log"
    assert "a backend's bug" in caplog.text
    house.manager.stop()


@on_loop
async def test_retry_works(house: House, monkeypatch: pytest.MonkeyPatch):
    waits: list[int] = []
    monkeypatch.setattr(
        manager_module, "retry_delay_ns", lambda failures: waits.append(failures) or 1_000_000
    )
    house.runtime.error = LoadError("no memory")
    await house.want(want(1))
    assert house.manager.get(want(1).key).reason.endswith("onnxruntime: no memory")
    await until(lambda: len(waits) >= 3)
    house.runtime.error = None
    await until(lambda: house.states() == {"gate1": "ready"})
    release = house.manager.get(want(1).key)
    assert (release.failures, release.reason) == (0, "")
    assert waits[:3] == [1, 2, 3]
    house.manager.stop()


@on_loop
async def test_a_failed_release_is_not_tried_before_its_time(house: House):
    house.runtime.error = LoadError("no")
    await house.want(want(1))
    house.runtime.error = None
    for _ in range(5):
        house.manager.step()
        await turns()
    assert house.states() == {"gate1": "failed"}
    assert len(house.runtime.loads) == 1
    house.manager.stop()


@on_loop
async def test_new_is_ready_before_old_goes(house: House):
    await house.want(want(1))
    house.seen.clear()
    house.manager.want([want(2)])
    await until(lambda: house.states() == {"gate2": "ready"})
    for states in house.seen:
        assert "ready" in states.values(), f"nobody served: {house.seen}"
    assert house.seen[0] == {"gate1": "ready", "gate2": "loading"}
    await until(lambda: house.runtime.sessions[0].closed == 1)
    house.manager.stop()


@on_loop
async def test_old_is_closed_only_after_its_last_request(house: House):
    await house.want(want(1))
    old = house.manager.get(want(1).key)
    old.typical_run_ns = 10**9
    session = house.runtime.sessions[0]
    session.gate = threading.Event()
    plane = Dataplane()
    plane.swap(ServingTable(1, {"gate": Route("gate", {1: old})}))
    answers = []
    x = np.ones((1, 4), np.float32)
    for _ in range(3):
        plane.submit(InferRequest("gate", {"x": x}), lambda r, _: answers.append(r.error))
        await turns()
    house.manager.want([want(2)])
    await until(lambda: house.states().get("gate2") == "ready")
    assert house.states()["gate1"] == "draining"
    assert not session.closed
    session.gate.set()
    await house.manager.drained()
    await until(lambda: session.closed)
    assert answers == [None] * 3
    assert house.states() == {"gate2": "ready"}
    house.manager.stop()


@on_loop
async def test_wanted_again_while_it_drains(house: House):
    """A roll-back before the last request ended: it is loaded again, not forgotten."""
    await house.want(want(1))
    session = house.runtime.sessions[0]
    house.manager.get(want(1).key).in_flight = 1
    house.manager.want([])
    assert house.states() == {"gate1": "draining"}
    house.manager.want([want(1)])
    settled = asyncio.ensure_future(house.manager.settled([want(1).key]))
    await turns()
    assert not settled.done()
    release = house.manager.get(want(1).key)
    release.in_flight = 0
    house.manager._on_idle(release)
    await until(settled.done)
    assert house.states() == {"gate1": "ready"}
    assert house.manager.get(want(1).key) is not release
    await until(lambda: session.closed == 1)
    house.manager.stop()


@on_loop
async def test_not_wanted_while_it_loads(house: House):
    house.runtime.gate = threading.Event()
    house.manager.want([want(1)])
    await until(lambda: house.runtime.loads)
    house.manager.want([])
    assert house.states() == {"gate1": "loading"}
    house.runtime.gate.set()
    await until(lambda: not house.states())
    await until(lambda: house.runtime.sessions[0].closed == 1)
    house.manager.stop()


@on_loop
async def test_settled_of_what_is_no_longer_wanted_returns(house: House):
    house.runtime.gate = threading.Event()
    house.manager.want([want(1), want(2)])
    settled = asyncio.ensure_future(house.manager.settled([want(1).key, want(2).key]))
    await turns()
    house.manager.want([])
    house.runtime.gate.set()
    await until(settled.done)
    await until(lambda: not house.states())
    house.manager.stop()


@on_loop
async def test_new_bytes_of_the_same_release_number(house: House):
    """The key is the digest: other bytes are another release, loaded beside the first."""
    await house.want(want(1))
    other = Desired("other", FakeStored(doubler("gate", 1)), ModelConfig(bundle="b"))
    house.manager.want([other])
    await until(lambda: house.states() == {"other": "ready"})
    assert len(house.runtime.loads) == 2
    house.manager.stop()


@on_loop
async def test_same_key_is_not_loaded_again(house: House):
    await house.want(want(1))
    first = house.manager.get(want(1).key)
    await house.want(want(1))
    assert house.manager.get(want(1).key) is first
    assert len(house.runtime.loads) == 1
    assert [item.digest for item in house.manager.wanted()] == ["gate1"]
    house.manager.stop()


@on_loop
async def test_stop_while_loading_closes_what_comes_too_late(house: House):
    house.runtime.gate = threading.Event()
    house.manager.want([want(1)])
    await until(lambda: house.runtime.loads)
    house.manager.stop()
    house.runtime.gate.set()
    await until(lambda: house.runtime.sessions and house.runtime.sessions[0].closed == 1)
    assert State.READY.value not in house.states().values()


@on_loop
async def test_stop_twice_and_step_after_stop_do_nothing(house: House):
    await house.want(want(1))
    house.manager.stop()
    house.manager.stop()
    house.manager.want([want(2)])
    house.manager.step()
    assert len(house.runtime.loads) == 1
    await until(lambda: house.runtime.sessions[0].closed == 1)


APART = ModelConfig(bundle="b", isolation="model")


def apart(number: int = 1) -> Desired:
    return Desired(f"gate{number}", FakeStored(doubler("gate", number)), APART)


class WorkersHouse(House):
    """Its releases live in workers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.workers = Workers(monkeypatch, ThreadProcess)
        self.hopeless: list[tuple[str, str]] = []
        self.ready: list[str] = []
        self.manager.on_hopeless = lambda r, why: self.hopeless.append((r.key.digest, why))
        self.manager.on_ready = lambda r: self.ready.append(r.key.digest)

    async def die(self) -> None:
        """The worker that serves dies, and that is noticed."""
        before = len(self.manager.get(apart().key).deaths_ns), self.seen.copy()
        self.workers.last.die("died of SIGSEGV", "SIGSEGV")
        await until(lambda: self.seen != before[1])

    async def back(self, loads: int) -> None:
        await until(lambda: len(self.ready) == loads and self.states() == {"gate1": "ready"})


@pytest.fixture
def kept_apart(monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkersHouse]:
    made = WorkersHouse(monkeypatch)
    yield made
    made.manager._thread.shutdown(wait=True)
    made.workers.close()


@pytest.fixture
def _without_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is decided stays; what would be waited for is not."""
    decide = lifecycle_module.restart_delay_ns
    monkeypatch.setattr(lifecycle_module, "restart_delay_ns", lambda *args: decide(*args) and 0)


@on_loop
async def test_a_worker_that_died_is_started_again_at_once(kept_apart: WorkersHouse):
    house = kept_apart
    await house.want(apart())
    house.seen.clear()
    await house.die()
    await house.back(2)
    assert house.seen[:3] == [{"gate1": "failed"}, {"gate1": "loading"}, {"gate1": "ready"}]
    release = house.manager.get(apart().key)
    assert (release.failures, release.reason, len(release.deaths_ns)) == (0, "", 1)
    answers = []
    plane = Dataplane()
    plane.swap(ServingTable(1, {"gate": Route("gate", {1: release})}))
    x = np.ones((1, 4), np.float32)
    plane.submit(InferRequest("gate", {"x": x}), lambda r, _: answers.append(r.error))
    await until(lambda: answers)
    assert answers == [None]
    assert not house.hopeless
    house.manager.stop()


@on_loop
async def test_what_another_model_did_is_no_death_of_its_own(
    kept_apart: WorkersHouse, monkeypatch: pytest.MonkeyPatch
):
    """However often: it is back at once, and never left out."""
    house = kept_apart
    monkeypatch.setattr(lifecycle_module, "restart_delay_ns", lambda *_: None)
    await house.want(apart())
    for loads in (2, 3):
        house.workers.last.die("died of SIGSEGV", "", Blame.OTHER)
        await house.back(loads)
    assert not house.hopeless
    assert not house.manager.get(apart().key).deaths_ns
    await house.die()
    await until(lambda: house.hopeless)
    house.manager.stop()


def test_another_isolation_is_another_session():
    kinds = ("none", "device", "model")
    keys = {
        Desired("d", FakeStored(doubler()), ModelConfig(bundle="b", isolation=kind)).key
        for kind in kinds
    }
    assert len(keys) == 3
    apart_twice = ModelConfig(bundle="b", isolation="model", batching=BatchingConfig(instances=2))
    assert Desired("d", FakeStored(doubler()), apart_twice).key not in keys


@on_loop
async def test_a_second_death_waits_a_moment(
    kept_apart: WorkersHouse, monkeypatch: pytest.MonkeyPatch
):
    house = kept_apart
    await house.want(apart())
    await house.die()
    await house.back(2)
    monkeypatch.setattr(lifecycle_module, "restart_delay_ns", lambda *_: MINUTE_NS)
    await house.die()
    for _ in range(5):
        house.manager.step()
        await turns()
    assert house.states() == {"gate1": "failed"}
    assert "died of SIGSEGV" in house.manager.get(apart().key).reason
    assert len(house.workers.made) == 2
    house.manager.stop()


@pytest.mark.usefixtures("_without_delay")
@on_loop
async def test_five_deaths_within_a_minute_are_enough(kept_apart: WorkersHouse):
    house = kept_apart
    await house.want(apart())
    for loads in range(2, 6):
        await house.die()
        await house.back(loads)
        assert not house.hopeless
    await house.die()
    await until(lambda: house.hopeless)
    assert house.states() == {"gate1": "failed"}
    ((digest, why),) = house.hopeless
    assert digest == "gate1"
    assert why.startswith("its worker died 5 times within 60 s, at last: the worker process")
    release = house.manager.get(apart().key)
    assert release.is_quarantined
    assert release.retry_at_ns == NEVER_NS
    assert release.reason == why
    house.manager.step()
    await turns()
    assert len(house.workers.made) == 5, "it was started again"
    # Lifted: tried again, and what was before is forgotten.
    house.manager.reconsider(lambda digest: digest == "gate1")
    assert house.states() == {"gate1": "failed"}
    house.manager.reconsider(lambda _: False)
    await house.back(6)
    await house.die()
    await house.back(7)
    assert len(house.hopeless) == 1
    house.manager.stop()


@on_loop
async def test_reconsider_leaves_other_failures_alone(house: House):
    house.runtime.error = LoadError("no")
    await house.want(want(1))
    house.runtime.error = None
    house.manager.reconsider(lambda _: False)
    await turns()
    assert house.states() == {"gate1": "failed"}
    house.manager.stop()


@on_loop
async def test_quarantined_is_not_tried_until_it_is_lifted(house: House):
    house.runtime.error = QuarantinedError("in quarantine: why")
    await house.want(want(1))
    release = house.manager.get(want(1).key)
    # Here the runtime says so, where the loader would: the words of a load that failed.
    release.is_quarantined = True
    release.retry_at_ns = NEVER_NS
    house.runtime.error = None
    house.manager.reconsider(lambda digest: digest == "gate1")
    assert house.states() == {"gate1": "failed"}
    house.manager.reconsider(lambda _: False)
    await until(lambda: house.states() == {"gate1": "ready"})
    assert not release.is_quarantined
    house.manager.stop()


@on_loop
async def test_death_while_it_drains(kept_apart: WorkersHouse):
    house = kept_apart
    await house.want(apart())
    release = house.manager.get(apart().key)
    release.in_flight = 1  # somebody holds it
    house.manager.want([])
    assert house.states() == {"gate1": "draining"}
    house.workers.last.die("died of SIGBUS", "SIGBUS")
    await until(lambda: release.deaths_ns)
    assert house.states() == {"gate1": "draining"}
    release.in_flight = 0
    house.manager._on_idle(release)
    assert house.states() == {}
    assert (house.hopeless, len(house.workers.made)) == ([], 1)
    house.manager.stop()


@on_loop
async def test_death_of_one_that_is_wanted_no_longer(kept_apart: WorkersHouse):
    """It served on until its successor would be ready; it is not started again."""
    house = kept_apart
    await house.want(apart(1))
    house.workers.runtime.gate = threading.Event()
    old = house.workers.last
    house.manager.want([apart(2)])
    await until(lambda: len(house.workers.made) == 2)
    old.die("died of SIGSEGV", "SIGSEGV")
    await until(lambda: house.states().get("gate1") != "ready")
    house.workers.runtime.gate.set()
    await until(lambda: house.states() == {"gate2": "ready"})
    assert len(house.workers.made) == 2
    house.manager.stop()
