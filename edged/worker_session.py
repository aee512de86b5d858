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
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from edged.device.memory import Taken
from edged.errors import (
    EdgedError,
    ProtocolError,
    RemoteProtocolError,
    RunError,
    WorkerDiedError,
)
from edged.patience import Patience
from edged.protocol import native
from edged.protocol.frames import Frame, Kind
from edged.runtimes.base import Artefact, StillRunningError
from edged.tensors import Array, TensorSpec
from edged.worker import LoadJob, LoadReply, Piece, specs
from edged.worker_link import WorkerLink
from edged.worker_process import WorkerProcess, handed_over, reap

log = logging.getLogger("edged.serving")

OnDone = Callable[[Mapping[str, Array], EdgedError | None], None]

_SPIN_NS = 100_000
"""A worker that answers within so long is waited for without sleeping: waking this core again would
cost 40 us, and the loop is held up no longer than by a fast model that runs on it."""
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
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_death: Callable[[str], None] | None = None
        self._on_done: OnDone | None = None
        self._due_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._patience = Patience(_SPIN_NS)
        self._is_closed = False
        self.version = ""
        self.memory_before: Taken | None = None
        """What the process had before the model was there; None if unknown."""
        self.inputs: Sequence[TensorSpec] = ()
        self.outputs: Sequence[TensorSpec] = ()
        self.crash = ""
        """How it died by its own doing, e.g. ``SIGSEGV``; empty while it did not."""
        with handed_over(artefact) as (file, pieces):
            self._process = WorkerProcess(file, self._caps.nice)
            self._sock = self._process.socket
            self._link = WorkerLink(self._sock, artefact.model)
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
            may_wait_awake=not self._caps.nice,
            file=file,
            pieces=pieces,
            inputs=[(s.name, s.dtype, s.shape) for s in artefact.inputs],
            outputs=[(s.name, s.dtype, s.shape) for s in artefact.outputs],
        )
        arguments: dict[str, Any] = msgspec.to_builtins(job)
        until = time.monotonic() + self._caps.load_timeout_s
        self._link.call("load", arguments)
        frame = self._exchange(until)
        try:
            reply = msgspec.convert(native.decode_reply(frame), LoadReply, strict=False)
        except (ProtocolError, msgspec.ValidationError) as exc:
            raise self._lost(RemoteProtocolError(f"a reply that is none: {exc}")) from exc
        self.version = reply.version
        self.memory_before = Taken(*reply.before) if reply.before is not None else None
        self.inputs, self.outputs = specs(reply.inputs), specs(reply.outputs)
        self._link.agree(artefact.inputs, artefact.outputs)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run one batch and wait for it; not while the session is attached to a loop.

        Raises:
            RunError: the model failed on these inputs.
            WorkerDiedError: the process is gone.
        """
        if self._is_closed:
            raise self._death("was ended")
        self._link.request(inputs)
        frame = self._exchange(time.monotonic() + self._caps.run_timeout_s)
        try:
            return self._link.outputs(frame)
        except ProtocolError as exc:
            raise self._lost(exc) from exc

    def bind(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> WorkerRun | None:
        """A run that is waited for awake; None when frames of this model are not short."""
        return WorkerRun(self, inputs, outputs) if self._link.has_layout else None

    def _exchange(self, until: float) -> Frame:
        try:
            return self._link.exchange(until)
        except (OSError, ProtocolError) as exc:
            raise self._lost(exc) from exc

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
        self._ask(loop, inputs)
        if not self._link.is_sending and self._patience.is_worth_it():
            try:
                frame = self._spin()
            except (OSError, ProtocolError) as exc:
                loop.call_soon(self._broke, exc)
            else:
                # Whoever is told may begin the next run, and must not do so from within this one.
                if frame is not None:
                    loop.call_soon(self._handle, [frame])

    def run_awake(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        """Run, and wait without giving up this core; see ``BoundRun``.

        Args:
            inputs: arrays of the layout that was agreed on.
            outputs: where the answer's go.
        """
        loop = self._loop
        if (
            loop is None
            or self._on_done is not None
            or self._is_closed
            or not self._patience.is_worth_it()
        ):
            raise RunError("it is not to be waited for now")
        self._ask(loop, inputs)
        try:
            frame = self._spin()
        except (OSError, ProtocolError) as exc:
            loop.call_soon(self._broke, exc)
            raise StillRunningError from exc
        if frame is None:
            raise StillRunningError
        if frame.kind != Kind.ANSWER:
            loop.call_soon(self._handle, [frame])
            raise StillRunningError
        try:
            found = self._link.outputs(frame)
        except ProtocolError as exc:
            loop.call_soon(self._broke, exc)
            raise StillRunningError from exc
        if any(found[name].shape != array.shape for name, array in outputs.items()):
            raise RunError("it answered other rows than it was asked")  # one would fill them all
        for name, array in outputs.items():
            array[...] = found[name]

    def await_run(self, on_done: OnDone) -> None:
        """Take over what ``run_awake`` left under way, before the loop turns."""
        assert self._on_done is None
        self._on_done = on_done

    def _ask(self, loop: asyncio.AbstractEventLoop, inputs: Mapping[str, Array]) -> None:
        self._due_s = time.monotonic() + self._caps.run_timeout_s
        if self._timer is None:
            self._timer = loop.call_later(self._caps.run_timeout_s, self._look_at_clock)
        self._link.request(inputs)
        self._write()

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
        if self._loop is None or self._loop.is_closed():
            self._process.end(_REAP_LATER_S)
            return
        self._process.end()
        self._loop.call_later(_REAP_LATER_S, reap)
        # What ran is answered; nothing else will do it.
        self._loop.call_soon(self._finish, {}, self._death("was ended"))

    def _spin(self) -> Frame | None:
        """Wait a moment for the answer without giving up this core."""
        until_ns = time.monotonic_ns() + self._patience.wait_ns
        while time.monotonic_ns() < until_ns:
            frames = self._link.receive()
            if frames:
                self._patience.ended(in_time=True)
                return frames[0]
            os.sched_yield()  # the worker may be on this very core
        self._patience.ended(in_time=False)
        return None

    def _write(self) -> None:
        loop = self._loop
        assert loop is not None
        try:
            self._link.send()
        except OSError:
            # The reader finds out why; it may hold last words.
            self._link.forget()
        if self._link.is_sending:
            loop.add_writer(self._sock.fileno(), self._writable)

    def _writable(self) -> None:
        assert self._loop is not None
        self._loop.remove_writer(self._sock.fileno())
        self._write()

    def _readable(self) -> None:
        try:
            frames = self._link.receive()
        except (OSError, ProtocolError) as exc:
            self._broke(exc)
            return
        self._handle(frames or [])

    def _broke(self, cause: Exception) -> None:
        if not self._is_closed:
            self._die(self._lost(cause))

    def _handle(self, frames: list[Frame]) -> None:
        for frame in frames:
            if self._on_done is None or not self._link.is_awaited(frame):
                continue  # an answer that nobody asked for, or one more
            outputs: Mapping[str, Array] = {}
            error: EdgedError | None = None
            try:
                outputs = self._link.outputs(frame)
            except ProtocolError as exc:
                self._die(self._lost(exc))
                return
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


class WorkerRun:
    """A run in a worker from fixed memory to fixed memory.

    Args:
        session: of the worker.
        inputs: read anew by every run.
        outputs: written by it.
    """

    def __init__(
        self, session: WorkerSession, inputs: Mapping[str, Array], outputs: Mapping[str, Array]
    ) -> None:
        self._session = session
        self._inputs, self._outputs = inputs, outputs

    def run(self) -> None:
        """See ``WorkerSession.run_awake``."""
        self._session.run_awake(self._inputs, self._outputs)
