"""Processes that several models share: who lives where, and whose doing a death is.

The processes are real and so is the harm: a division that the processor refuses, a loop without
end, signals from outside.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
import os
import platform
import select
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from edged.errors import LoadError, WorkerDiedError
from edged.workers import session as worker_session
from edged.workers import shared as shared_worker
from edged.workers.blame import Blame
from edged.workers.process import WorkerProcess
from edged.workers.session import WorkerCaps, WorkerSession
from edged.workers.shared import SharedWorkers, Who
from tests.e2e.harmful import crasher, looper
from tests.fakes.clock import on_loop, until
from tests.fakes.descriptors import descriptors
from tests.fakes.worker import Told, artefact_of, wait_until
from tests.models import TinyModel, double

X = {"x": np.ones((2, 4), np.float32)}
BAD, ENDLESS = {"n": np.array([-1])}, {"n": np.array([2**62])}
OWN, OTHER, UNCLEAR = Blame.OWN, Blame.OTHER, Blame.UNCLEAR

needs_trap = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="only x86-64 traps the division that overflows"
)


class House:
    """Makes sessions that live together."""

    def __init__(self) -> None:
        self.workers = SharedWorkers(2 << 30)
        self.sessions: list[WorkerSession] = []

    def session(
        self, name: str, model: Callable[[], TinyModel] = double, device: str = "cpu", **caps: float
    ) -> WorkerSession:
        enter = functools.partial(self.workers.enter, Who(f"device {device}", name, name))
        artefact = artefact_of(model())
        made = WorkerSession("onnxruntime", artefact, WorkerCaps(threads=1, **caps), enter)
        self.sessions.append(made)
        return made

    def close(self) -> None:
        for session in self.sessions:
            session.close()


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    made.close()


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def is_hung_up(session: WorkerSession) -> bool:
    poll = select.poll()
    poll.register(session._sock, select.POLLIN)
    return any(event & select.POLLHUP for _, event in poll.poll(0))


def death_of(session: WorkerSession) -> WorkerDiedError:
    with pytest.raises(WorkerDiedError) as info:
        session.run(X)
    return info.value


def attach(session: WorkerSession) -> Told:
    told = Told()
    session.attach(asyncio.get_running_loop(), told.deaths.append)
    return told


def test_one_process_for_a_device(house: House):
    before = descriptors()
    a, b, other = house.session("a"), house.session("b"), house.session("o", device="cuda")
    assert a.pid == b.pid != other.pid
    for session in (a, b, a, other):
        np.testing.assert_array_equal(session.run(X)["y"], X["x"] * 2)
    a.close()
    assert death_of(a).message.endswith("was ended")
    assert not is_gone(b.pid)
    assert b.run(X)
    c = house.session("c")
    assert c.pid == b.pid
    other.close()
    wait_until(lambda: is_gone(other.pid))
    b.close()
    assert c.run(X)
    c.close()
    wait_until(lambda: is_gone(c.pid))
    assert descriptors() <= before
    assert house.workers.deaths == {}, "these ended as they should"


def test_the_next_one_after_the_last(house: House):
    first = house.session("a")
    first.close()
    second = house.session("a")
    assert second.pid != first.pid
    assert second.run(X)


@needs_trap
def test_a_crash_takes_them_all_along_and_blames_one(
    house: House, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.ERROR)
    a, bad = house.session("a"), house.session("bad", crasher)
    far = house.session("far", device="cuda")
    with pytest.raises(WorkerDiedError, match=r"died of SIGFPE$") as info:
        bad.run(BAD)
    assert (info.value.crash, bad.blame) == ("SIGFPE", OWN)
    error = death_of(a)
    assert error.message.endswith('died of SIGFPE while it ran model "bad"')
    assert (error.crash, a.blame) == ("", OTHER)
    assert far.run(X)
    assert house.workers.deaths == {"device cpu": 1}
    hosted, left = (record.getMessage() for record in caplog.records)
    assert hosted.startswith("the worker process of device cpu (")
    assert hosted.endswith("; it hosted a, bad")
    # Python 3.13 writes "Floating-point".
    assert "Floating point exception" in left.replace("-", " ")
    again = house.session("a")
    assert again.run(X)
    assert again.pid not in (a.pid, far.pid)


@needs_trap
@pytest.mark.parametrize("can_tell", [True, False])
@on_loop
async def test_on_whose_thread_it_crashed(
    house: House, can_tell: bool, monkeypatch: pytest.MonkeyPatch
):
    """Of two that run the process says which; where it could not, both are under suspicion."""
    if not can_tell:
        monkeypatch.setattr(shared_worker, "crashed_guest", lambda _: None)
    idle, busy, bad = house.session("i"), house.session("b", looper), house.session("x", crasher)
    told = [attach(session) for session in (idle, busy, bad)]
    busy.begin(ENDLESS, told[1].on_done)
    bad.begin(BAD, told[2].on_done)
    await until(lambda: all(one.deaths for one in told))
    blames = (idle.blame, busy.blame, bad.blame)
    assert blames == ((OTHER, OTHER, OWN) if can_tell else (OTHER, UNCLEAR, UNCLEAR))
    assert not told[0].answers
    assert isinstance(told[1].error, WorkerDiedError)
    assert told[1].deaths[0].endswith('ran model "x"' if can_tell else 'ran model "b" or "x"')


@on_loop
async def test_suspects_live_alone_until_it_is_known_who_it_was(house: House):
    """Two ran when it died of a signal from outside."""
    names = ("a", "b", "c")
    sessions = [house.session(name, looper) for name in names]
    told = [attach(session) for session in sessions]
    for one, session in list(zip(told, sessions, strict=True))[:2]:
        session.begin(ENDLESS, one.on_done)
    os.kill(sessions[0].pid, signal.SIGKILL)
    await until(lambda: all(one.deaths for one in told))
    assert [session.blame for session in sessions] == [UNCLEAR, UNCLEAR, OTHER]
    a, b, c = (house.session(name, looper) for name in names)
    assert len({a.pid, b.pid, c.pid}) == 3
    guilty = attach(a)
    a.begin(ENDLESS, guilty.on_done)
    os.kill(a.pid, signal.SIGKILL)
    await until(lambda: guilty.deaths)
    assert a.blame is OWN
    b.close()
    assert house.session("b").pid == c.pid, "it is innocent, and may come back"
    assert house.session("a").pid == c.pid, "what is known is counted, not kept apart"


def test_an_end_from_outside_while_none_runs(house: House):
    a, b = house.session("a"), house.session("b")
    os.kill(a.pid, signal.SIGKILL)
    wait_until(lambda: is_hung_up(a))
    assert "died of SIGKILL while none of its models ran" in death_of(a).message, (
        "what it was asked afterwards it never ran"
    )
    death_of(b)
    assert (a.blame, b.blame) == (UNCLEAR, UNCLEAR)
    a, b = house.session("a"), house.session("b")
    assert a.pid == b.pid


@on_loop
async def test_what_it_was_asked_after_its_end_it_never_ran(house: House):
    """The request came before anybody had noticed the end."""
    a, b = house.session("a"), house.session("b")
    told = [attach(session) for session in (a, b)]
    os.kill(a.pid, signal.SIGKILL)
    wait_until(lambda: is_hung_up(a))
    a.begin(X, told[0].on_done)
    await until(lambda: all(one.deaths for one in told))
    assert (a.blame, b.blame) == (UNCLEAR, UNCLEAR)
    assert isinstance(told[0].error, WorkerDiedError)


@on_loop
async def test_an_answer_that_is_on_its_way_is_an_answer(
    house: House, monkeypatch: pytest.MonkeyPatch
):
    """It had done its work before the process died, though nobody had read that yet."""
    monkeypatch.setattr(worker_session, "_SPIN_NS", 0)
    a, b = house.session("a", looper), house.session("b", looper)
    told = [attach(session) for session in (a, b)]
    a.begin({"n": np.array([3])}, told[0].on_done)
    lodger = a.lodger
    assert lodger is not None
    wait_until(a._link.has_answer)
    b.begin(ENDLESS, told[1].on_done)
    os.kill(a.pid, signal.SIGKILL)
    wait_until(lambda: is_hung_up(b))
    # Whoever is told first: the verdict is one.
    b._readable()
    assert (b.blame, lodger.seen().is_running) == (OWN, False)
    await until(lambda: told[0].deaths)
    assert told[0].error is None
    assert a.blame is OTHER


@on_loop
async def test_a_run_that_does_not_end(house: House):
    a, hung = house.session("a"), house.session("hung", looper, run_timeout_s=0.3)
    told = [attach(session) for session in (a, hung)]
    hung.begin(ENDLESS, told[1].on_done)
    await until(lambda: all(one.deaths for one in told))
    assert (a.blame, hung.blame) == (OTHER, OWN)
    assert told[1].deaths[0].endswith('model "looper" did not answer in time and was ended')
    assert (
        told[0].deaths[0].endswith('did not answer in time and was ended while it ran model "hung"')
    )
    wait_until(lambda: is_gone(a.pid))


def test_a_load_that_is_refused_harms_nobody(house: House):
    a = house.session("a")
    with pytest.raises(LoadError):
        house.session("bad", lambda: dataclasses.replace(double(), data=b"no model"))
    assert a.run(X)
    assert len(house.workers._homes["device cpu"].lodgers) == 1


def test_one_connection_that_ends_is_not_the_process(house: House, monkeypatch: pytest.MonkeyPatch):
    """Its thread fell over a frame that is none; the others never notice."""
    a, b = house.session("a"), house.session("b")
    a._sock.setblocking(True)
    a._sock.sendall(b"\xff" * 4096)
    a._sock.setblocking(False)
    assert death_of(a).message.endswith("closed its connection and was ended")
    assert a.blame is OWN
    assert b.run(X)
    assert b.pid == a.pid


class TestCaps:
    def caps_of(self, most: int, *each: int) -> int:
        home = object.__new__(shared_worker.SharedWorker)
        home._most_bytes = most
        home._lock = shared_worker.threading.RLock()
        place = functools.partial(shared_worker.Lodger, home, 0, Who("d", "m", ""))
        home.lodgers = {
            n: place(memory_bytes=size, is_running=bool, sock=None) for n, size in enumerate(each)
        }
        return home.cap_bytes()

    def test_added_up_within_what_it_may_have(self):
        assert self.caps_of(100, 10, 20) == 30
        assert self.caps_of(100, 70, 60) == 100
        assert self.caps_of(100, 120, 60) == 120, "the operator said so of one of them"
        assert self.caps_of(100, 10, 0) == 100, "one without a cap has that of the process"
        assert self.caps_of(0, 10, 20) == 30
        assert self.caps_of(0, 0) == 0

    def test_the_process_has_it(self, house: House):
        def cap(pid: int) -> int:
            lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
            return int(next(line for line in lines if line.startswith("Max data")).split()[3])

        a = house.session("a", memory_bytes=512 << 20)
        assert cap(a.pid) == 512 << 20
        house.session("b", memory_bytes=256 << 20)
        assert cap(a.pid) == 768 << 20
        assert a.run(X)


class TestStart:
    @pytest.mark.parametrize("what", ["memfd_create", "process"])
    def test_that_fails(self, house: House, what: str, monkeypatch: pytest.MonkeyPatch):
        def none(*_: object) -> None:
            raise OSError(24, "Too many open files")

        def no_process(*_: object) -> WorkerProcess:
            raise LoadError("a worker process cannot be started: Too many open files")

        before = descriptors()
        with monkeypatch.context() as patch:
            if what == "process":
                patch.setattr(shared_worker, "WorkerProcess", no_process)
            else:
                patch.setattr(shared_worker.os, "memfd_create", none)
            with pytest.raises(LoadError, match="Too many open files"):
                house.workers.enter(Who("device cpu", "a", "a"), 0, 0, bool)
        assert descriptors() <= before

    def test_that_ends_at_once(self, house: House, monkeypatch: pytest.MonkeyPatch):
        """It is told, and not tried for ever."""
        before = descriptors()
        monkeypatch.setattr(shared_worker, "_MODULE", "edged.no_such_module")

        class Ended(WorkerProcess):
            def __init__(self, *arguments: object) -> None:
                super().__init__(*arguments)
                self.death(30)

        monkeypatch.setattr(shared_worker, "WorkerProcess", Ended)
        with pytest.raises(LoadError, match="device cpu ended as it was started"):
            house.workers.enter(Who("device cpu", "a", "a"), 0, 0, bool)
        assert descriptors() <= before
