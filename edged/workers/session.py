"""A session whose model lives in a worker process: blocking for the loader, through the loop else.

The session runs in two ways: ``run`` blocks, for the loader's thread; ``begin`` answers through the
event loop, so that serving pays no thread.

Decides when the process has to go: it died, it broke the protocol, or it was given its time and did
not answer. A kernel that runs cannot be stopped from inside; SIGKILL is the last word.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import msgspec

from edged import decoding
from edged.device.memory import Taken
from edged.errors import EdgedError, ProtocolError, RemoteProtocolError, RunError, WorkerDiedError
from edged.protocol import native
from edged.protocol.frames import Frame, Kind
from edged.runtimes.base import Artefact, StillRunningError
from edged.system.patience import Patience
from edged.tensors import Array, TensorSpec
from edged.workers.blame import Blame
from edged.workers.link import WorkerLink
from edged.workers.process import (
    Death,
    Hosting,
    Place,
    WorkerCaps,
    WorkerProcess,
    handed_over,
    load_arguments,
    reap,
)
from edged.workers.run import WorkerRun
from edged.workers.shared import Enter
from edged.workers.worker import LoadReply, Piece, specs

__all__ = ["Enter", "OnDone", "WorkerCaps", "WorkerSession"]

log = logging.getLogger("edged.serving")

OnDone = Callable[[Mapping[str, Array], EdgedError | None], None]

_SPIN_NS = 100_000
"""A worker that answers within so long is waited for without sleeping: waking this core again would
cost 40 us, and the loop is held up no longer than by a fast model that runs on it."""
_REAP_LATER_S = 1.0
"""When a killed process should be gone; until then it is a zombie, which costs a table entry."""


class WorkerSession:
    """One process with one loaded model; used by one thread at a time.

    Making one blocks until the model is loaded or has failed.

    Args:
        runtime: which one the process uses.
        artefact: the model.
        caps: what the process may take.
        enter: how to get a place in a process that others share; None for one of its own.

    Raises:
        WorkerDiedError: the process died over it.
        LoadError: the runtime refused it, or it took too long.
    """

    lodger: Place | None
    """Its place in a process that others may share; None in one of its own."""
    _process: Hosting

    def __init__(
        self, runtime: str, artefact: Artefact, caps: WorkerCaps, enter: Enter | None = None
    ) -> None:
        self._start(artefact.model, caps)
        with handed_over(artefact) as (file, pieces):
            if enter is None:
                self._process = WorkerProcess(file, caps.nice)
            else:
                self.lodger = enter(file, caps.memory_bytes, self.is_running)
                self._process = self.lodger
                self._caps = replace(caps, memory_bytes=self.lodger.cap_bytes)
            self._sock = self._process.socket
            self._link = WorkerLink(self._sock, artefact.model)
            try:
                self._load(runtime, artefact, file, pieces)
                self._process.settle()
            except BaseException:
                self.close()
                raise

    def _start(self, model: str, caps: WorkerCaps) -> None:
        self._model = model
        self._caps, self.lodger = caps, None
        self._sides: list[WorkerSession] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_death: Callable[[str], None] | None = None
        self._on_done: OnDone | None = None
        self._due_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._patience = Patience(_SPIN_NS)
        self._is_closed = self._is_waiting = self._was_refused = False
        self.version = self._how = ""
        self.memory_before: Taken | None = None
        """What the process had before the model was there; None if unknown."""
        self.inputs: Sequence[TensorSpec] = ()
        self.outputs: Sequence[TensorSpec] = ()
        self.crash = ""
        """How it died by its own doing, e.g. ``SIGSEGV``; empty while it did not."""
        self.blame = Blame.OWN
        """What its death means for this model."""

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def is_free(self) -> bool:
        """Whether nothing was asked of it that is not answered."""
        return self._on_done is None

    @property
    def ways(self) -> int:
        """How many runs may be under way at once."""
        return 1 + len(self._sides)

    def widen(self, sides: Iterable[WorkerSession]) -> None:
        """Have more ways to the model, not while attached to a loop."""
        self._sides += sides

    def _load(self, runtime: str, artefact: Artefact, file: int, pieces: list[Piece]) -> None:
        arguments = load_arguments(runtime, artefact, self._caps, file, pieces)
        until = time.monotonic() + self._caps.load_timeout_s
        self._link.call("load", arguments)
        frame = self._exchange(until)
        try:
            reply = decoding.convert(native.decode_reply(frame), LoadReply, strict=False)
        except (ProtocolError, msgspec.ValidationError) as exc:
            raise self.lost(RemoteProtocolError(f"a reply that is none: {exc}")) from exc
        self.version, self.placed = reply.version, reply.placed
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
            raise self.lost(exc) from exc

    def bind(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> WorkerRun | None:
        """A run that is waited for awake; None when frames of this model are not short."""
        return WorkerRun(self, inputs, outputs) if self._link.has_layout else None

    def _exchange(self, until: float) -> Frame:
        self._is_waiting = True
        try:
            return self._link.exchange(until)
        except (OSError, ProtocolError) as exc:
            self._was_refused = isinstance(exc, BrokenPipeError)
            raise self.lost(exc) from exc
        finally:
            self._is_waiting = False

    def is_running(self) -> bool:
        """Whether a run or a load is under way; an answer that is not read yet is an answer."""
        is_asked = (self._is_waiting or self._on_done is not None) and not self._was_refused
        if is_asked and not self._link.has_answer():
            return True
        return any(side.is_running() for side in self._sides)

    def attach(self, loop: asyncio.AbstractEventLoop, on_death: Callable[[str], None]) -> None:
        """Answer through this loop from now on; ``on_death`` is told once why it ended.

        A run that is under way at the death is answered right after.
        """
        self._loop, self._on_death = loop, on_death
        for side in self._sides:
            side.attach(loop, functools.partial(self._side_died, side))
        loop.add_reader(self._sock.fileno(), self._readable)

    def begin(self, inputs: Mapping[str, Array], on_done: OnDone) -> None:
        """Start a run, only when a way is free; ``on_done`` is called on the loop, once."""
        if self._on_done is not None and self._sides:
            next(side for side in self._sides if side.is_free).begin(inputs, on_done)
            return
        loop = self._loop
        assert loop is not None
        assert self._on_done is None
        self._on_done = on_done
        if self._is_closed:
            loop.call_soon(self.finish, {}, self._death("was ended"))
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
        for side in self._sides:
            side.close()
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
        self._loop.call_soon(self.finish, {}, self._death("was ended"))

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
            self._was_refused = True
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
            self._die(self.lost(cause))

    def _handle(self, frames: list[Frame]) -> None:
        for frame in frames:
            if self._on_done is None or not self._link.is_awaited(frame):
                continue  # an answer that nobody asked for, or one more
            outputs: Mapping[str, Array] = {}
            error: EdgedError | None = None
            try:
                outputs = self._link.outputs(frame)
            except ProtocolError as exc:
                self._die(self.lost(exc))
                return
            except EdgedError as exc:
                error = exc
            self.finish(outputs, error)

    def finish(self, outputs: Mapping[str, Array], error: EdgedError | None) -> None:
        """Tell whoever waits, if anybody does."""
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
        self._die(self.lost(TimeoutError()))

    def _die(self, error: WorkerDiedError) -> None:
        self.close()
        on_death, self._on_death = self._on_death, None
        if on_death is not None:
            # First, so that nothing new is begun when the run under way is answered.
            on_death(error.message)
        for way in (self, *self._sides):
            way.finish({}, error)

    def _side_died(self, side: WorkerSession, _reason: str) -> None:
        if not self._is_closed:
            self.crash, self.blame = side.crash, side.blame
            self._die(self._death(side._how))

    def lost(self, cause: BaseException) -> WorkerDiedError:
        """End the process, or the place in it, and say how it went."""
        if isinstance(cause, TimeoutError):
            death = self._condemned("did not answer in time and was ended")
        elif isinstance(cause, ProtocolError):
            death = self._condemned(f"broke the protocol and was ended ({cause})")
        else:
            death = self._process.death()
        self.crash, self.blame, self._how = death.crash, death.blame, death.words
        self.close()
        return self._death(death.words)

    def _condemned(self, words: str) -> Death:
        return self.lodger.condemn(words) if self.lodger is not None else Death(words)

    def _death(self, how: str) -> WorkerDiedError:
        words = f'the worker process of model "{self._model}" {how}'
        return WorkerDiedError(words, crash=self.crash)
