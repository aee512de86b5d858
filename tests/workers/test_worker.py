"""The child's side of the socket: one load, then runs; nothing that a model does ends it."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest

from edged.errors import EdgedError, InvalidRequestError, LoadError, RunError, RuntimeFailureError
from edged.messages import InferRequest
from edged.protocol import native
from edged.protocol.frames import Buffer, Frame, FrameReader
from edged.runtimes.base import Artefact
from edged.tensors import TensorSpec
from edged.workers import worker
from edged.workers.process import handed_over
from edged.workers.worker import LIMITS, LoadJob, Worker, cap_memory, specs
from tests.fakes.descriptors import descriptors
from tests.fakes.model import FakeRuntime, FakeSession
from tests.fakes.wire import joined

ROWS = [("x", "float32", ("batch", 4))]
X = np.arange(8, dtype=np.float32).reshape(2, 4)


class Parent:
    """The other end of a Worker that serves on a thread."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.runtime = FakeRuntime()
        self.created: list[tuple[str, int]] = []
        self.capped: list[int] = []
        monkeypatch.setattr(worker, "create_runtime", self._create)
        monkeypatch.setattr(worker, "cap_memory", self.capped.append)
        monkeypatch.setattr(worker.gc, "freeze", lambda: None)
        self.socket, theirs = socket.socketpair()
        self.socket.settimeout(20)
        self._reader = FrameReader(LIMITS)
        self.trouble: list[BaseException] = []
        self._thread = threading.Thread(target=self._serve, args=(theirs,), daemon=True)
        self._thread.start()

    def _create(self, name: str, *, threads: int, is_expendable: bool) -> FakeRuntime:
        assert is_expendable  # a package may crash here
        self.created.append((name, threads))
        return self.runtime

    def _serve(self, theirs: socket.socket) -> None:
        with theirs:
            try:
                Worker(theirs).serve()
            except BaseException as exc:
                self.trouble.append(exc)

    def ask(self, buffers: list[Buffer]) -> Frame:
        self.socket.sendall(joined(buffers))
        while True:
            count = self.socket.recv_into(self._reader.next_buffer())
            assert count, f"it closed: {self.trouble}"
            for frame in self._reader.received(count):
                return frame

    def load(self, artefact: Artefact, **more: Any) -> Any:
        with handed_over(artefact) as (fd, pieces):
            job = LoadJob(
                model=artefact.model, runtime="onnxruntime", threads=3, memory_bytes=1 << 30,
                may_wait_awake=False, file=os.dup(fd), pieces=pieces, inputs=ROWS, outputs=[],
            )  # fmt: skip
            arguments = msgspec.to_builtins(job) | more
            return native.decode_reply(self.ask(native.encode_call(1, "load", arguments)))

    def run(self, number: int = 2, **inputs: Any) -> dict[str, Any]:
        frame = self.ask(native.encode_infer(number, InferRequest("gate", inputs)))
        assert frame.request_id == number
        response = native.decode_response(frame, "gate", LIMITS)
        if response.error is not None:
            raise response.error
        return dict(response.outputs)

    def close(self) -> None:
        self.socket.close()
        self._thread.join(20)
        assert not self._thread.is_alive()


@pytest.fixture
def parent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Parent]:
    made = Parent(monkeypatch)
    yield made
    made.close()
    assert not made.trouble


GATE = Artefact("gate", b"model", specs(ROWS), (), {"w.bin": b"weights", "e.bin": b""})


class TestServe:
    def test_loads_and_runs(self, parent: Parent):
        seen: list[Artefact] = []
        load = parent.runtime.load
        parent.runtime.load = lambda artefact: seen.append(artefact) or load(artefact)
        before = descriptors()
        reply = parent.load(GATE)
        taken = reply.pop("before")
        assert reply == {"version": "1.0", "inputs": [], "outputs": [], "placed": None}
        assert taken[1] >= taken[0] > 0, "the most it had is more than what only it has"
        (artefact,) = seen
        assert (artefact.model, artefact.data, artefact.sidecars) == (
            "gate",
            b"model",
            GATE.sidecars,
        )
        assert artefact.inputs == (TensorSpec("x", "float32", ("batch", 4)),)
        assert (parent.created, parent.capped) == ([("onnxruntime", 3)], [1 << 30])
        assert descriptors() <= before, "it kept the memory file open"
        for number in (2, 3):
            np.testing.assert_array_equal(parent.run(number, x=X)["y"], X * 2)

    def test_signature_is_the_session_s_own(self, parent: Parent, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(FakeSession, "inputs", specs(ROWS))
        reply = parent.load(GATE)
        assert specs(reply["inputs"]) == specs(ROWS)

    def test_a_read_that_gives_less_than_asked(
        self, parent: Parent, monkeypatch: pytest.MonkeyPatch
    ):
        """The kernel hands out 2 GiB at most at a time; weights beside a model may be larger."""
        pread = os.pread
        monkeypatch.setattr(worker.os, "pread", lambda fd, size, at: pread(fd, min(size, 3), at))
        seen: list[Artefact] = []
        load = parent.runtime.load
        parent.runtime.load = lambda artefact: seen.append(artefact) or load(artefact)
        parent.load(GATE)
        assert (seen[0].data, seen[0].sidecars) == (GATE.data, GATE.sidecars)

    def test_large_and_small_both_ways(self, parent: Parent):
        parent.load(GATE)
        parent.runtime.sessions[0].function = lambda inputs: {"y": inputs["x"], "n": X}
        for rows in (0, 1, 4095, 4097, 500_000):
            x = np.full((rows, 4), rows, np.float32)
            got = parent.run(x=x)
            np.testing.assert_array_equal(got["y"], x)
            np.testing.assert_array_equal(got["n"], X)

    def test_closing_ends_it(self, parent: Parent):
        parent.load(GATE)
        parent.close()
        assert not parent.trouble


class TestErrors:
    """Each is an answer; the next run works."""

    @pytest.mark.parametrize(
        ("raised", "kind", "message"),
        [
            (RunError("a negative reading"), RunError, "^a negative reading$"),
            (
                MemoryError(),
                RuntimeFailureError,
                '^model "gate" needs more memory than it may have$',
            ),
            (
                ZeroDivisionError("secret"),
                RuntimeFailureError,
                '^model "gate" failed: ZeroDivisionError$',
            ),
        ],
    )
    def test_a_run_that_raises(
        self, parent: Parent, raised: Exception, kind: type[EdgedError], message: str
    ):
        def fails(_: Any) -> Any:
            raise raised

        parent.load(GATE)
        session = parent.runtime.sessions[0]
        session.function, double = fails, session.function
        with pytest.raises(kind, match=message) as caught:
            parent.run(x=X)
        assert type(caught.value) is kind
        session.function = double
        np.testing.assert_array_equal(parent.run(x=X)["y"], X * 2)

    def test_a_load_that_is_refused(self, parent: Parent):
        parent.runtime.error = LoadError("no such operator")
        with pytest.raises(LoadError, match=r"^no such operator$"):
            parent.load(GATE)
        parent.runtime.error = None
        parent.load(GATE)

    def test_a_load_that_makes_no_sense(self, parent: Parent):
        with pytest.raises(RuntimeFailureError, match="the worker failed: ValidationError"):
            parent.load(GATE, threads="many")

    def test_an_output_that_the_protocol_does_not_carry(self, parent: Parent):
        parent.load(GATE)
        parent.runtime.sessions[0].function = lambda _: {"y": np.array([1j])}
        with pytest.raises(EdgedError, match='"y" has dtype'):
            parent.run(x=X)

    def test_a_run_before_the_load(self, parent: Parent):
        with pytest.raises(InvalidRequestError, match="nothing is loaded yet"):
            parent.run(x=X)

    def test_another_call(self, parent: Parent):
        frame = parent.ask(native.encode_call(9, "status" * 20, {}))
        assert frame.request_id == 9
        with pytest.raises(InvalidRequestError, match="a worker knows no call"):
            native.decode_reply(frame)

    def test_bytes_that_are_no_frame_end_it(self, monkeypatch: pytest.MonkeyPatch):
        parent = Parent(monkeypatch)
        parent.socket.sendall(b"GET / HTTP/1.1\r\nHost: example\r\n\r\n")
        assert parent.socket.recv(1) == b""
        parent.close()
        assert "does not start with EDGD" in str(parent.trouble[0])


def child(program: str, *arguments: object, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)],
        capture_output=True, text=True, timeout=60, check=False, **more,
    )  # fmt: skip


class TestConfine:
    def test_limits_of_the_process(self):
        program = """
            import os, resource
            from edged.workers.worker import cap_memory, confine
            confine()
            print(resource.getrlimit(resource.RLIMIT_CORE), resource.getrlimit(resource.RLIMIT_NOFILE))
            cap_memory(300 << 20)
            kept = bytearray(100 << 20)
            try:
                bytearray(400 << 20)
            except MemoryError:
                print("capped")
        """
        done = child(program)
        assert done.stdout.splitlines() == ["(0, 0) (256, 256)", "capped"], done

    def test_a_lower_limit_stays(self):
        program = """
            import resource
            from edged.workers.worker import confine
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
            confine()
            print(resource.getrlimit(resource.RLIMIT_NOFILE))
        """
        assert child(program).stdout == "(64, 64)\n"

    def test_no_cap(self):
        before = resource.getrlimit(resource.RLIMIT_DATA)
        cap_memory(0)
        assert resource.getrlimit(resource.RLIMIT_DATA) == before

    def test_without_a_parent_it_ends(self, monkeypatch: pytest.MonkeyPatch):
        """It died between our start and our wish to be told."""
        parents = iter([4711, 1])
        monkeypatch.setattr(worker.os, "getppid", lambda: next(parents))
        monkeypatch.setattr(worker, "_PR_SET_PDEATHSIG", 0)  # no such option: refused
        with pytest.raises(SystemExit) as caught:
            worker.confine()
        assert caught.value.code == 0


def test_main_serves_its_descriptor_until_it_is_closed():
    """Also with a parent that is gone in the middle of an answer."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "edged.workers.worker", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
        )
    with ours:
        ours.settimeout(20)
        ours.sendall(joined(native.encode_call(5, "nonsense", {})))
        (frame,) = FrameReader(LIMITS).feed(ours.recv(1 << 16))
        assert frame.request_id == 5
        ours.sendall(b"".join(joined(native.encode_call(n, "nonsense", {})) for n in range(50)))
    assert process.wait(20) == 0
