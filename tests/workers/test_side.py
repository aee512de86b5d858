"""Several runs of one model at once in its worker: real processes, real runs without end."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from edged.errors import WorkerDiedError
from edged.workers.blame import Blame
from edged.workers.isolation import WorkerRuntime
from edged.workers.session import WorkerCaps, WorkerSession
from edged.workers.shared import Lodger, SharedWorkers, Who
from tests.e2e.harmful import crasher, looper
from tests.fakes.clock import on_loop, until
from tests.fakes.descriptors import descriptors
from tests.fakes.worker import Told, artefact_of, wait_until
from tests.models import TinyModel
from tests.workers.test_shared import attach, is_gone, needs_trap

ENDLESS, BAD = {"n": np.array([2**62])}, {"n": np.array([-1])}


class House:
    def __init__(self) -> None:
        self.workers = SharedWorkers()
        self.sessions: list[WorkerSession] = []

    def session(self, model: Callable[[], TinyModel], ways: int, **caps: float) -> WorkerSession:
        name = f"m{len(self.sessions)}"
        enter = functools.partial(self.workers.enter, Who("device cpu", name, name))
        runtime = WorkerRuntime("onnxruntime", WorkerCaps(threads=1, ways=ways, **caps), enter)
        self.sessions.append(runtime.load(artefact_of(model())))
        return self.sessions[-1]


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    for session in made.sessions:
        session.close()


def three(value: int) -> dict[str, np.ndarray]:
    return {"n": np.array([value])}


@on_loop
async def test_a_run_does_not_wait_for_another(house: House):
    """Nor do their answers get mixed up."""
    before = descriptors()
    session = house.session(looper, 3)
    assert session.ways == 3
    told = attach(session)
    endless = Told()
    session.begin(ENDLESS, endless.on_done)
    for value in range(1, 30, 2):
        pair = [Told(), Told()]
        for offset, one in enumerate(pair):
            session.begin(three(value + offset), one.on_done)
        await until(lambda pair=pair: all(one.answers for one in pair))
        for offset, one in enumerate(pair):
            assert one.error is None
            assert one.answers[0][0]["y"] == [value + offset]
    assert not endless.answers
    assert not told.deaths
    session.close()
    await until(lambda: endless.answers)
    assert isinstance(endless.error, WorkerDiedError)
    await until(lambda: is_gone(session.pid))
    assert descriptors() <= before


@on_loop
async def test_a_death_ends_every_way_once(house: House):
    session, other = house.session(looper, 2), house.session(looper, 1)
    told, near = attach(session), attach(other)
    runs = [Told(), Told()]
    for one in runs:
        session.begin(ENDLESS, one.on_done)
    os.kill(session.pid, signal.SIGKILL)
    await until(lambda: told.deaths and near.deaths)
    assert len(told.deaths) == 1
    for one in runs:
        assert "died of SIGKILL" in str(one.error)
    assert (session.blame, other.blame) == (Blame.OWN, Blame.OTHER)


@needs_trap
@on_loop
async def test_a_crash_on_a_side_way_is_the_model_s(house: House):
    """Two models ran; it is told by the thread, which is that of a side way."""
    bad, busy = house.session(crasher, 2), house.session(looper, 1)
    told, near = attach(bad), attach(busy)
    busy.begin(ENDLESS, near.on_done)
    (side,) = bad._sides
    lost = Told()
    side.begin(BAD, lost.on_done)
    await until(lambda: told.deaths and near.deaths)
    assert (bad.blame, busy.blame) == (Blame.OWN, Blame.OTHER)
    assert bad.crash == "SIGFPE"
    assert "died of SIGFPE" in str(lost.error)


@on_loop
async def test_a_side_run_that_does_not_end(house: House):
    session = house.session(looper, 2, run_timeout_s=0.4)
    told, runs = attach(session), [Told(), Told()]
    for one in runs:
        session.begin(ENDLESS, one.on_done)
        await asyncio.sleep(0)
    await until(lambda: told.deaths)
    assert all("did not answer in time" in str(one.error) for one in runs)
    assert len(told.deaths) == 1


@on_loop
async def test_a_way_that_breaks_ends_the_model_and_no_other(house: House):
    session, other = house.session(looper, 2), house.session(looper, 1)
    told, near = attach(session), attach(other)
    (side,) = session._sides
    side._sock.send(b"\xff" * 4096)
    await until(lambda: told.deaths)
    assert not near.deaths
    answer = Told()
    other.begin(three(3), answer.on_done)
    await until(lambda: answer.answers)
    assert answer.error is None
    assert len(house.workers._homes["device cpu"].lodgers) == 1


def test_that_cannot_be_had(house: House, monkeypatch: pytest.MonkeyPatch):
    """The process dies between the load and the second way."""

    def dead(lodger: Lodger) -> None:
        os.kill(lodger.pid, signal.SIGKILL)
        wait_until(lodger._host._is_dying)
        raise BrokenPipeError

    monkeypatch.setattr(Lodger, "widen", dead)
    before = descriptors()
    with pytest.raises(WorkerDiedError, match="died of SIGKILL"):
        house.session(looper, 2)
    assert descriptors() <= before


def test_one_way_is_enough_alone(house: House):
    session = house.session(looper, 1)
    assert session.ways == 1
    assert session.run(three(5))["y"] == [5]
