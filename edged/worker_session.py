"""A session whose model lives in a worker process: blocking for the loader, through the loop else.

The session runs in two ways: ``run`` blocks, for the loader's thread; ``begin`` answers through the
event loop, so that serving pays no thread.

Decides when the process has to go: it died, it broke the protocol, or it was given its time and did
not answer. A kernel that runs cannot be stopped from inside; SIGKILL is the last word.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from edged.errors import (
    EdgedError,
    ProtocolError,
    RunError,
    WorkerDiedError,
)
from edged.messages import InferRequest
from edged.protocol import native
from edged.protocol.frames import Buffer, Frame, FrameReader, Kind
from edged.protocol.repeats import Repeats
from edged.runtimes.base import Artefact
from edged.tensors import Array, TensorSpec
from edged.worker import LIMITS, LoadJob, Piece, specs
from edged.worker_process import WorkerProcess, handed_over, reap

log = logging.getLogger("edged.serving")

OnDone = Callable[[Mapping[str, Array], EdgedError | None], None]

_SPIN_NS = 100_000
"""A worker that answers within so long is waited for without sleeping: waking this core again would
cost 40 us, and the loop is held up no longer than by a fast model that runs on it."""
_MISSES_CAP, _RUNS_WITHOUT = 4, 64
"""After so many waits in vain (a slow model, a busy machine) so many runs are not waited for."""
_REAP_LATER_S = 1.0
"""When a killed process should be gone; until then it is a zombie, which costs a table entry."""


@dataclass(frozen=True, slots=True)
class WorkerCaps:
    """What one worker process may take.

    Args:
        threads: threads of one run; 0 for one a core.
        memory_bytes: private memory; 0 for no cap.
        load_timeout_s: from the start of the process to the loaded model, seconds.
        run_timeout_s: of one run, seconds; then the process is killed.
        nice: added to its priority.
    """

    threads: int = 0
    memory_bytes: int = 0
    load_timeout_s: float = 120.0
    run_timeout_s: float = 30.0
    nice: int = 0


class WorkerSession:
    """One process with one loaded model; used by one thread at a time.

    Making one blocks until the model is loaded or has failed.

    Args:
        runtime: which one the process uses.
        artefact: the model.
        caps: what the process may take.

    Raises:
        WorkerDiedError: the process died over it.
        LoadError: the runtime refused it, or it took too long.
    """

    def __init__(self, runtime: str, artefact: Artefact, caps: WorkerCaps) -> None:
        self._model = artefact.model
        self._caps = caps
        self._reader = FrameReader(LIMITS)
        self._repeats = Repeats()
        self._request_id = 0
        self._unsent: list[memoryview] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_death: Callable[[str], None] | None = None
        self._on_done: OnDone | None = None
        self._due_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._spin_ns = _SPIN_NS if len(os.sched_getaffinity(0)) > 1 else 0
        self._misses = 0
        self._skipped = 0
        self._is_closed = False
        self.version = ""
        self.inputs: Sequence[TensorSpec] = ()
        self.outputs: Sequence[TensorSpec] = ()
        self.crash = ""
        """How it died by its own doing, e.g. ``SIGSEGV``; empty while it did not."""
        with handed_over(artefact) as (file, pieces):
            self._process = WorkerProcess(file)
            self._sock = self._process.socket
            try:
                self._load(runtime, artefact, file, pieces)
            except BaseException:
                self.close()
                raise

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def _load(self, runtime: str, artefact: Artefact, file: int, pieces: list[Piece]) -> None:
        job = LoadJob(
            model=artefact.model,
            runtime=runtime,
            threads=self._caps.threads,
            memory_bytes=self._caps.memory_bytes,
            nice=self._caps.nice,
            file=file,
            pieces=pieces,
            inputs=[(s.name, s.dtype, s.shape) for s in artefact.inputs],
            outputs=[(s.name, s.dtype, s.shape) for s in artefact.outputs],
        )
        arguments: dict[str, Any] = msgspec.to_builtins(job)
        until = time.monotonic() + self._caps.load_timeout_s
        frame = self._exchange(native.encode_call(self._next_id(), "load", arguments), until)
        reply = native.decode_reply(frame)
        self.version = str(reply["version"])
        self.inputs, self.outputs = specs(reply["inputs"]), specs(reply["outputs"])

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run one batch and wait for it; not while the session is attached to a loop.

        Raises:
            RunError: the model failed on these inputs.
            WorkerDiedError: the process is gone.
        """
        until = time.monotonic() + self._caps.run_timeout_s
        return self._outputs(self._exchange(self._encode(inputs), until))

    def attach(self, loop: asyncio.AbstractEventLoop, on_death: Callable[[str], None]) -> None:
        """Answer through this loop from now on; ``on_death`` is told once why it ended.

        A run that is under way at the death is answered right after.
        """
        self._loop, self._on_death = loop, on_death
        loop.add_reader(self._sock.fileno(), self._readable)

    def begin(self, inputs: Mapping[str, Array], on_done: OnDone) -> None:
        """Start a run, only when none is under way; ``on_done`` is called on the loop, once."""
        loop = self._loop
        assert loop is not None
        assert self._on_done is None
        self._on_done = on_done
        if self._is_closed:
            loop.call_soon(self._finish, {}, self._death("was ended"))
            return
        self._due_s = time.monotonic() + self._caps.run_timeout_s
        if self._timer is None:
            self._timer = loop.call_later(self._caps.run_timeout_s, self._look_at_clock)
        self._unsent = _views(self._encode(inputs))
        self._write()
        if self._spin_ns and not self._unsent:
            self._spin(loop)

    def close(self) -> None:
        """End the process; what it still runs is of no use to anybody."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._sock.fileno())
            self._loop.remove_writer(self._sock.fileno())
        self._process.end()
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_later(_REAP_LATER_S, reap)

    def _next_id(self) -> int:
        self._request_id += 1
        return self._request_id

    def _encode(self, inputs: Mapping[str, Array]) -> list[Buffer]:
        number = self._next_id()
        buffers = self._repeats.encode(Kind.INFER, number, inputs)
        if buffers is None:
            buffers = native.encode_infer(number, InferRequest(self._model, inputs))
            self._repeats.learn(inputs, buffers)
        return buffers

    def _outputs(self, frame: Frame) -> dict[str, Array]:
        """What a frame answers.

        Raises:
            RunError: the model failed.
        """
        if frame.kind == Kind.RESULT:
            known = self._repeats.decode(frame)
            if known is not None:
                return known
        response = native.decode_response(frame, self._model, LIMITS)
        if response.error is not None:
            error = response.error
            raise error if isinstance(error, RunError) else RunError(error.message)
        outputs = dict(response.outputs)
        self._repeats.learn_layout(frame, outputs)
        return outputs

    # Blocking, for the loader's thread.

    def _exchange(self, buffers: list[Buffer], until: float) -> Frame:
        """Send a frame, wait for the one that answers; ends the process when none comes."""
        views = _views(buffers)
        try:
            while views:
                self._wait(select.POLLOUT, until)
                views = _send(self._sock, views)
            while True:
                self._wait(select.POLLIN, until)
                for frame in self._receive():
                    return frame
        except (OSError, ProtocolError) as exc:
            raise self._lost(exc) from exc

    def _wait(self, events: int, until: float) -> None:
        poll = select.poll()
        poll.register(self._sock, events)
        if not poll.poll(max(0.0, until - time.monotonic()) * 1000):
            raise TimeoutError

    def _receive(self) -> list[Frame]:
        """Take what is there.

        Raises:
            ConnectionError: the process closed its end.
            RemoteProtocolError: it said something that is not the protocol.
        """
        try:
            count = self._sock.recv_into(self._reader.next_buffer())
        except BlockingIOError:
            return []
        if count == 0:
            raise ConnectionResetError
        return self._frames(count)

    def _frames(self, count: int) -> list[Frame]:
        frames = self._reader.received(count)
        self._reader.check()
        return [frame for frame in frames if frame.request_id == self._request_id]

    # Through the loop, for serving.

    def _spin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait a moment for the answer without giving up this core."""
        if self._misses >= _MISSES_CAP:
            self._skipped += 1
            if self._skipped < _RUNS_WITHOUT:
                return
            self._misses = self._skipped = 0
        until_ns = time.monotonic_ns() + self._spin_ns
        sock, reader = self._sock, self._reader
        while time.monotonic_ns() < until_ns:
            try:
                count = sock.recv_into(reader.next_buffer())
            except BlockingIOError:
                continue
            except OSError:
                break
            if count == 0:
                break  # the reader finds it, and out why
            self._misses = 0
            self._took(count, loop)
            return
        self._misses += 1

    def _write(self) -> None:
        loop = self._loop
        assert loop is not None
        try:
            self._unsent = _send(self._sock, self._unsent)
        except OSError:
            # The reader finds out why; it may hold last words.
            self._unsent = []
        if self._unsent:
            loop.add_writer(self._sock.fileno(), self._writable)

    def _writable(self) -> None:
        assert self._loop is not None
        self._loop.remove_writer(self._sock.fileno())
        self._write()

    def _readable(self) -> None:
        try:
            count = self._sock.recv_into(self._reader.next_buffer())
            if count == 0:
                raise ConnectionResetError
        except BlockingIOError:
            return
        except OSError as exc:
            self._die(self._lost(exc))
            return
        self._took(count)

    def _took(self, count: int, later: asyncio.AbstractEventLoop | None = None) -> None:
        """Bytes have arrived in the reader's buffer; what they say is handled now, or ``later``."""
        try:
            frames = self._frames(count)
        except ProtocolError as exc:
            self._die(self._lost(exc))
            return
        if later is None:
            self._handle(frames)
        elif frames:
            # Whoever is told may begin the next run, and must not do so from within this one.
            later.call_soon(self._handle, frames)

    def _handle(self, frames: list[Frame]) -> None:
        for frame in frames:
            outputs: Mapping[str, Array] = {}
            error: EdgedError | None = None
            try:
                outputs = self._outputs(frame)
            except EdgedError as exc:
                error = exc
            self._finish(outputs, error)

    def _finish(self, outputs: Mapping[str, Array], error: EdgedError | None) -> None:
        on_done, self._on_done = self._on_done, None
        if on_done is not None:
            on_done(outputs, error)

    def _look_at_clock(self) -> None:
        """One timer serves many runs: it is looked at when it fires, not moved at every run."""
        self._timer = None
        if self._on_done is None or self._loop is None:
            return
        left = self._due_s - time.monotonic()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look_at_clock)
            return
        self._die(self._lost(TimeoutError()))

    def _die(self, error: WorkerDiedError) -> None:
        self.close()
        on_death, self._on_death = self._on_death, None
        if on_death is not None:
            # First, so that nothing new is begun when the run under way is answered.
            on_death(error.message)
        self._finish({}, error)

    def _lost(self, cause: BaseException) -> WorkerDiedError:
        """End the process, and say how it went."""
        if isinstance(cause, TimeoutError):
            self.close()
            return self._death("did not answer in time and was ended")
        if isinstance(cause, ProtocolError):
            self.close()
            return self._death(f"broke the protocol and was ended ({cause})")
        death = self._process.death()
        self.crash = death.crash
        self.close()
        return self._death(death.words)

    def _death(self, how: str) -> WorkerDiedError:
        words = f'the worker process of model "{self._model}" {how}'
        return WorkerDiedError(words, crash=self.crash)


def _views(buffers: list[Buffer]) -> list[memoryview]:
    if len(buffers) > 1 and sum(map(len, buffers)) <= 64 << 10:
        return [memoryview(b"".join(buffers))]
    return [memoryview(buffer) for buffer in buffers if buffer]


def _send(sock: socket.socket, views: list[memoryview]) -> list[memoryview]:
    """Send as much as goes without waiting; returns the rest."""
    while views:
        try:
            sent = sock.send(views[0])
        except BlockingIOError:
            break
        views = [views[0][sent:], *views[1:]] if sent < len(views[0]) else views[1:]
    return views
