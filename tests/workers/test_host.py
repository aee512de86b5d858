"""The child that hosts several models: each on its own thread, none in the way of another."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest

from edged.errors import EdgedError
from edged.messages import InferRequest
from edged.protocol import native
from edged.protocol.frames import Frame, FrameReader
from edged.runtimes.base import Artefact
from edged.workers import host as worker_host
from edged.workers import worker
from edged.workers.host import Guest, Host, SharedPatience
from edged.workers.process import handed_over
from edged.workers.worker import LIMITS, LoadJob, specs
from tests.fakes.descriptors import descriptors
from tests.fakes.model import FakeRuntime
from tests.fakes.wire import joined
from tests.fakes.worker import wait_until

ROWS = [("x", "float32", ("batch", 4))]
X = np.ones((2, 4), np.float32)


class Visitor:
    """The parent's side of one model in a Host."""

    def __init__(self, door: socket.socket, number: int) -> None:
        self.number = number
        self.socket, theirs = socket.socketpair()
        self.socket.settimeout(20)
        self._reader = FrameReader(LIMITS)
        with handed_over(Artefact(f"m{number}", b"model", specs(ROWS), ())) as (file, self.pieces):
            socket.send_fds(door, [b"enter %d" % number], [theirs.fileno(), file])
        theirs.close()

    def send_load(self) -> None:
        job = LoadJob(
            model=f"m{self.number}", runtime="onnxruntime", threads=1, memory_bytes=0,
            may_wait_awake=False, file=-1, pieces=self.pieces, inputs=ROWS, outputs=[],
        )  # fmt: skip
        self.socket.sendall(joined(native.encode_call(1, "load", msgspec.to_builtins(job))))

    def load(self) -> Any:
        self.send_load()
        return native.decode_reply(self.frame())

    def run(self) -> Any:
        self.socket.sendall(joined(native.encode_infer(2, InferRequest("m", {"x": X}))))
        return native.decode_response(self.frame(), "m", LIMITS)

    def frame(self) -> Frame:
        while True:
            count = self.socket.recv_into(self._reader.next_buffer())
            assert count, "it closed"
            for frame in self._reader.received(count):
                return frame

    def is_hung_up(self) -> bool:
        return self.socket.recv(1) == b""


class House:
    """A Host on a thread of ours."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.runtime = FakeRuntime()
        monkeypatch.setattr(worker, "create_runtime", lambda *_, **__: self.runtime)
        monkeypatch.setattr(worker.gc, "freeze", lambda: None)
        self.door, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._theirs = theirs
        self.host = Host(theirs)
        self._thread = threading.Thread(target=self.host.serve, daemon=True)
        self._thread.start()
        self._made: list[Visitor] = []

    def enter(self) -> Visitor:
        self._made.append(Visitor(self.door, len(self._made) + 1))
        return self._made[-1]

    def threads(self) -> list[threading.Thread]:
        return [thread for every in self.host._threads.values() for thread in every]

    def close(self) -> None:
        for session in self.runtime.sessions:
            if session.gate is not None:
                session.gate.set()
        for visitor in self._made:
            visitor.socket.close()
        self.door.close()
        self._thread.join(20)
        for thread in self.threads():
            thread.join(20)
            assert not thread.is_alive()
        assert not self._thread.is_alive()
        self._theirs.close()


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    made = House(monkeypatch)
    yield made
    made.close()


class TestHost:
    def test_several_models(self, house: House):
        before = descriptors()
        guests = [house.enter() for _ in range(3)]
        for guest in guests:
            guest.load()
        for guest in reversed(guests):
            np.testing.assert_array_equal(guest.run().outputs["y"], X * 2)
        assert len(house.runtime.sessions) == 3
        assert descriptors() == before + 6, "both ends of each socket, and no memory file"

    def test_a_load_holds_up_nobody_s_runs(self, house: House, monkeypatch: pytest.MonkeyPatch):
        """Nor does a run that takes its time."""
        first, second = house.enter(), house.enter()
        first.load()
        gate, inside = threading.Event(), threading.Event()
        load = house.runtime.load

        def slow(artefact: Artefact) -> Any:
            inside.set()
            assert gate.wait(20)
            return load(artefact)

        monkeypatch.setattr(house.runtime, "load", slow)
        second.send_load()
        assert inside.wait(20)
        for _ in range(3):
            assert first.run().error is None
        gate.set()
        native.decode_reply(second.frame())
        slow_run = house.runtime.sessions[0]
        slow_run.gate = threading.Event()
        first.socket.sendall(joined(native.encode_infer(2, InferRequest("m", {"x": X}))))
        assert second.run().error is None
        slow_run.gate.set()
        assert first.frame().request_id == 2

    def test_who_leaves_gives_its_session_back_before_the_next_comes(self, house: House):
        first, other = house.enter(), house.enter()
        first.load()
        other.load()
        (session, _) = house.runtime.sessions
        close, freed = session.close, threading.Event()

        def slow() -> None:
            freed.wait(20)
            close()

        session.close = slow
        threading.Timer(0.3, freed.set).start()
        first.socket.close()
        house.door.send(b"leave 1")
        house.door.send(b"leave 9")
        third = house.enter()
        third.load()
        assert session.closed
        assert other.run().error is None
        assert third.run().error is None

    def test_the_last_way_to_a_model_closes_it(self, house: House):
        first = house.enter()
        first.load()
        (session,) = house.runtime.sessions
        ours, theirs = socket.socketpair()
        with ours, theirs:
            socket.send_fds(house.door, [b"join 1"], [theirs.fileno()])
            theirs.close()
            wait_until(lambda: len(house.threads()) == 2)
            first.socket.close()
            wait_until(lambda: not house.threads()[0].is_alive())
            assert not session.closed
            ours.sendall(joined(native.encode_infer(2, InferRequest("m", {"x": X}))))
            assert ours.recv(1)
        wait_until(lambda: session.closed)

    def test_one_that_breaks_the_protocol_ends_alone(self, house: House):
        first, other = house.enter(), house.enter()
        first.load()
        other.load()
        first.socket.sendall(b"\xff" * 4096)
        assert first.is_hung_up()
        wait_until(lambda: house.runtime.sessions[0].closed)
        assert other.run().error is None

    def test_a_load_that_fails_is_its_own_trouble(self, house: House):
        first, other = house.enter(), house.enter()
        first.load()
        house.runtime.error = EdgedError("no such operator")
        with pytest.raises(EdgedError, match="no such operator"):
            other.load()
        assert first.run().error is None

    def test_a_stack_says_whose_thread_it_is(self, house: House):
        for _ in range(2):
            house.enter().load()
        frames = sys._current_frames()
        for number, (thread,) in house.host._threads.items():
            stack = [one.name for one in traceback.extract_stack(frames[thread.ident or 0])]
            assert f"guest_{number}" in stack


class TestSharedPatience:
    def test_one_at_a_time(self):
        one, other = SharedPatience(1000), SharedPatience(1000)
        if not one.wait_ns:
            pytest.skip("one core: nobody waits awake")
        assert one.is_worth_it()
        assert not other.is_worth_it()
        one.ended(in_time=True)
        assert other.is_worth_it()
        other.give_up()
        other.give_up()
        assert one.is_worth_it()
        one.ended(in_time=False)

    def test_who_leaves_while_awake_is_in_nobody_s_way(self):
        ours, theirs = socket.socketpair()
        guest = Guest(theirs)
        patience = guest._patience = guest._awake(1000)
        if not patience.wait_ns:
            pytest.skip("one core: nobody waits awake")
        assert patience.is_worth_it()
        guest.leave()
        guest.hang_up()
        ours.close()
        assert not worker_host._awake.locked()


def test_its_cap_can_be_raised_again(monkeypatch: pytest.MonkeyPatch):
    """Nobody but root may raise a hard limit."""
    limits: list[tuple[int, int]] = []
    inf = resource.RLIM_INFINITY
    hards = iter((inf, inf, 7, 7))
    monkeypatch.setattr(resource, "getrlimit", lambda _: (inf, next(hards)))
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: limits.append(pair))
    ours, theirs = socket.socketpair()
    guest = Guest(theirs)
    for size in (5, 9, 9, 0):
        guest._cap(size)
    assert limits == [(5, inf), (9, inf), (7, 7)]
    ours.close()
    theirs.close()


def test_main_ends_when_its_door_closes():
    door, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    report = os.memfd_create("report")
    with theirs:
        child = subprocess.Popen(
            [sys.executable, "-m", "edged.workers.host", str(theirs.fileno()), str(report)],
            pass_fds=(theirs.fileno(), report),
        )
    door.close()
    os.close(report)
    assert child.wait(60) == 0
