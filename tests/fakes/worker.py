"""The two ends of a worker without its process: the child as a thread, or as a test says."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from edged.manifest import Manifest
from edged.protocol import native
from edged.protocol.frames import Buffer, Frame, FrameReader
from edged.runtimes.base import Artefact
from edged.tensors import Array
from edged.workers import session as worker_session
from edged.workers import worker
from edged.workers.blame import Blame
from edged.workers.process import Death, handed_over
from edged.workers.session import WorkerCaps, WorkerSession
from edged.workers.shared import Who
from edged.workers.worker import LIMITS, Worker, specs
from tests.fakes.model import FakeRuntime, doubler
from tests.fakes.wire import joined
from tests.models import TinyModel

LOADED = {"version": "1.0", "inputs": [], "outputs": []}


def artefact_of(model: TinyModel | Manifest, **sidecars: bytes) -> Artefact:
    """What loading would hand over."""
    if isinstance(model, Manifest):
        return Artefact(
            model.name, b"bytes", model.input_specs(), model.output_specs(), dict(sidecars)
        )
    sides = [[(e.name, e.dtype, e.shape) for e in side] for side in (model.inputs, model.outputs)]
    return Artefact(model.name, model.data, specs(sides[0]), specs(sides[1]), dict(sidecars))


class FakeProcess:
    """Our end of a socket whose other end, ``peer``, a test holds; dies as it is told to."""

    made: list[FakeProcess]
    cap_bytes = 0
    first_words: bytes = joined(native.encode_reply(1, LOADED))

    def __init__(self, _file: int, nice: int = 0) -> None:
        self.nice = nice
        self.socket, self.peer = socket.socketpair()
        for end in (self.socket, self.peer):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self.socket.setblocking(False)
        self.peer.settimeout(15)
        self.pid = 4711
        self.ends = self.settled = 0
        self.how = Death("ended with status 0")
        self.reader = FrameReader(LIMITS)
        self.frames: list[Frame] = []
        self.made.append(self)
        self.start()

    def start(self) -> None:
        self.peer.sendall(self.first_words)

    def settle(self) -> None:
        self.settled += 1

    def end(self, wait_s: float = 0.0) -> None:
        self.socket.close()
        self.ends += 1

    def death(self) -> Death:
        return self.how

    def condemn(self, words: str) -> Death:
        """As a place in a shared process does."""
        return Death(words)

    def die(self, words: str, crash: str = "", blame: Blame = Blame.OWN) -> None:
        """As if the process had ended."""
        self.how = Death(words, crash, blame)
        self.peer.shutdown(socket.SHUT_RDWR)

    def frame(self) -> Frame:
        """The next frame that the session sent, after CALL load."""
        while not self.frames:
            count = self.peer.recv_into(self.reader.next_buffer())
            assert count, "the session closed its end"
            self.frames += [f for f in self.reader.received(count) if f.request_id > 1]
        return self.frames.pop(0)

    def say(self, buffers: list[Buffer] | bytes) -> None:
        self.peer.sendall(buffers if isinstance(buffers, bytes) else joined(buffers))


class ThreadProcess(FakeProcess):
    """Its other end is served by a real ``Worker``, on a thread of ours, with a fake runtime."""

    def start(self) -> None:
        self.peer.setblocking(True)
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            Worker(self.peer).serve()
        self.peer.close()


class Workers:
    """Makes sessions whose processes are of ``kind``; all that were made are in ``made``.

    They run on ``runtime``, but for the names that ``runtimes`` has; ``asked`` has every name.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kind: type[FakeProcess]) -> None:
        self.made: list[FakeProcess] = []
        self.runtime = FakeRuntime()
        self.runtimes: dict[str, FakeRuntime] = {}
        self.asked: list[str] = []
        self.kind = type(kind.__name__, (kind,), {"made": self.made})
        monkeypatch.setattr(worker_session, "WorkerProcess", self.kind)
        # A spin would wait for ever by a clock that a test holds still.
        monkeypatch.setattr(worker_session, "_SPIN_NS", 0)
        if issubclass(kind, ThreadProcess):
            monkeypatch.setattr(worker, "create_runtime", self._create)
            # What a process of its own may do to itself, this one may not.
            monkeypatch.setattr(worker.gc, "freeze", lambda: None)
            monkeypatch.setattr(worker, "cap_memory", lambda _: None)
            monkeypatch.setattr(worker_session, "handed_over", _lent)

    def _create(self, name: str, **_: int) -> FakeRuntime:
        self.asked.append(name)
        return self.runtimes.get(name, self.runtime)

    def session(self, model: Artefact | None = None, **caps: float) -> WorkerSession:
        artefact = model or artefact_of(doubler())
        return WorkerSession("onnxruntime", artefact, WorkerCaps(**caps))

    @property
    def last(self) -> FakeProcess:
        return self.made[-1]

    def close(self) -> None:
        if self.runtime.gate is not None:
            self.runtime.gate.set()
        used = self.runtime, *self.runtimes.values()
        for session in [session for runtime in used for session in runtime.sessions]:
            if session.gate is not None:
                session.gate.set()
        for process in self.made:
            process.socket.close()
            if isinstance(process, ThreadProcess):
                with contextlib.suppress(OSError):
                    process.peer.shutdown(socket.SHUT_RDWR)
                process.thread.join(15)
                assert not process.thread.is_alive()
            process.peer.close()


class FakeShared:
    """Takes the place of ``SharedWorkers``: gives each model a process of ``Workers`` after all.

    Args:
        workers: whose.
    """

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self.entered: list[tuple[Who, int]] = []
        self.deaths: dict[str, int] = {}

    def enter(self, who: Who, file: int, memory_bytes: int, _: Callable[[], bool]) -> FakeProcess:
        self.entered.append((who, memory_bytes))
        return self._workers.kind(file)


@contextlib.contextmanager
def _lent(artefact: Artefact) -> Iterator[tuple[int, object]]:
    """Both ends are one process here: each needs a descriptor of its own to close."""
    with handed_over(artefact) as (file, pieces):
        yield os.dup(file), pieces


class Told:
    """What ``begin`` was answered, and what a death said."""

    def __init__(self) -> None:
        self.answers: list[tuple[dict[str, Array], Exception | None]] = []
        self.deaths: list[str] = []

    def on_done(self, outputs: dict[str, Array], error: Exception | None) -> None:
        self.answers.append((outputs, error))

    @property
    def error(self) -> Exception | None:
        ((outputs, error),) = self.answers
        assert not (outputs and error)
        return error


def wait_until(condition: Callable[[], object], limit_s: float = 20.0) -> None:
    """For processes; nothing turns meanwhile."""
    give_up = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < give_up, "what was waited for did not happen"
        time.sleep(0.002)
