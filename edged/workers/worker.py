"""The child process that hosts one session: trials, and models that are kept apart.

Run as ``python -m edged.workers.worker FD`` by the parent's ``session.py``, which is its only peer;
``host.py`` hosts several sessions in one process. It speaks the
native protocol over the socket it inherited: one CALL ``load`` whose bytes lie in a memory file,
then RUN frames of the layout that the load named, where that says where everything lies, and INFER
frames else, one after another; for a text that is to come piece by piece a STREAM frame. It trusts
its parent and is not trusted by it: whatever goes wrong here, a crash included, is one model's
trouble.

Decides nothing. It ends when the parent closes the socket, and the kernel ends it when the parent
dies without doing so.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import resource
import signal
import socket
import sys
import time
from typing import Any

import msgspec

from edged import decoding
from edged.device.memory import forget_peak, taken
from edged.errors import EdgedError, InvalidRequestError, RuntimeFailureError
from edged.messages import InferResponse
from edged.protocol import native, prepared_runs
from edged.protocol.frames import Buffer, Frame, FrameReader, Kind, Limits
from edged.protocol.repeats import Repeats
from edged.runtimes.base import Artefact, Session
from edged.runtimes.registry import create_runtime
from edged.system.patience import Patience
from edged.tensors import TensorSpec
from edged.workers.call import PreparedCall
from edged.workers.text import make_text

LIMITS = Limits(head_bytes=1 << 20, body_bytes=2 << 30)
"""The parent holds the limits towards its own peers; these only stop nonsense in both directions,
before memory is taken for it."""
HANDLE = 1
"""Of the one layout there is."""
_DESCRIPTORS = 256
"""Far more than a session needs; a leak in a backend ends here and not at the daemon's limit."""
_PR_SET_PDEATHSIG = 1
_SPIN_NS = 100_000
"""Who asks again within so long finds this core awake. A trial, which is nice, never does this."""


class Piece(msgspec.Struct, array_like=True, frozen=True):
    """A stretch of the memory file. The model itself has an empty name."""

    name: str
    offset: int
    size: int


class LoadJob(msgspec.Struct, frozen=True, kw_only=True):
    """Arguments of CALL ``load``.

    Args:
        model: the model's name, for messages.
        runtime: which one loads it.
        threads: threads of one run.
        memory_bytes: the most anonymous memory the process may take; 0 for no cap.
        may_wait_awake: whether it may keep a core awake for the next request; a trial may not.
        file: descriptor of the memory file, inherited.
        pieces: the model, then its sidecars.
        inputs: the signature that the manifest promises: name, dtype, shape.
        outputs: likewise.
    """

    model: str
    runtime: str
    threads: int
    memory_bytes: int
    may_wait_awake: bool
    file: int
    pieces: list[Piece]
    inputs: list[tuple[str, str, tuple[int | str, ...]]]
    outputs: list[tuple[str, str, tuple[int | str, ...]]]


class LoadReply(msgspec.Struct, frozen=True):
    """What CALL ``load`` is answered with.

    Args:
        version: of the runtime.
        inputs: the model's own signature.
        outputs: likewise.
        before: the process's memory before the model was there; see ``device.memory.Taken``.
        placed: nodes by operator on the device and on the processor; see ``runtimes/placed.py``.
    """

    version: str
    inputs: list[tuple[str, str, tuple[int | str, ...]]]
    outputs: list[tuple[str, str, tuple[int | str, ...]]]
    before: tuple[int, int, int] | None = None
    placed: tuple[dict[str, int], dict[str, int]] | None = None


def specs(
    rows: list[tuple[str, str, tuple[int | str, ...]]],
) -> tuple[TensorSpec, ...]:
    """A signature as it travels, as specs again."""
    return tuple(TensorSpec(name, dtype, tuple(shape)) for name, dtype, shape in rows)


def has_fixed_places(inputs: tuple[TensorSpec, ...]) -> bool:
    """Whether the rows alone say where each tensor lies in a body."""
    return all(
        spec.dtype != "string"  # one without an axis has any length too
        and all(isinstance(axis, int) and axis > 0 for axis in _own_axes(spec))
        for spec in inputs
    )


def _own_axes(spec: TensorSpec) -> tuple[int | str, ...]:
    return spec.shape[1:] if spec.is_batched else spec.shape


class Worker:
    """The child's side of one socket.

    Args:
        sock: the inherited end; blocking.
        file: descriptor of the memory file, where it came with the socket.
    """

    def __init__(self, sock: socket.socket, file: int | None = None) -> None:
        self._sock = sock
        self._file = file
        self._reader = FrameReader(LIMITS)
        self._patience = Patience(0)
        self._repeats = Repeats()
        self._prepared: PreparedCall | None = None
        self._session: Session | None = None
        self._owner = "the worker"

    def serve(self) -> None:
        """Answer until the parent closes its end."""
        while count := self._receive():
            lone = self._reader.peek()
            answer = None if lone is None else self._answer_lone(lone, count)
            if answer is not None:
                self._sock.sendall(answer)
                continue
            for frame in self._reader.received(count):
                self._send(self._answer(frame))
            self._reader.check()

    def hang_up(self) -> None:
        """Close our end."""
        self._sock.close()

    def _cap(self, size: int) -> None:
        cap_memory(size)

    def _awake(self, wait_ns: int) -> Patience:
        return Patience(wait_ns)

    def _receive(self) -> int:
        """Wait for bytes; awake for a moment when the last ones came so soon."""
        buffer = self._reader.next_buffer()
        patience = self._patience
        if patience.is_worth_it():
            until_ns = time.monotonic_ns() + patience.wait_ns
            while time.monotonic_ns() < until_ns:
                try:
                    count = self._sock.recv_into(buffer, 0, socket.MSG_DONTWAIT)
                except BlockingIOError:
                    os.sched_yield()  # the parent may be on this very core
                    continue
                patience.ended(in_time=True)
                return count
            patience.ended(in_time=False)
        return self._sock.recv_into(buffer)

    def _answer(self, frame: Frame) -> list[Buffer]:
        try:
            if frame.kind == Kind.RUN:
                return self._run(frame)
            if frame.kind == Kind.INFER:
                return self._infer(frame)
            if frame.kind == Kind.STREAM:
                return make_text(self._sock, self._loaded(), frame, LIMITS)
            if frame.kind == Kind.CANCEL:
                return []  # the text it withdraws has ended
            return native.encode_reply(frame.request_id, self._call(frame))
        except EdgedError as exc:
            return native.encode_error(frame.request_id, exc)
        except MemoryError:
            error = RuntimeFailureError(f"{self._owner} needs more memory than it may have")
            return native.encode_error(frame.request_id, error)
        except Exception as exc:
            faulthandler.dump_traceback()
            error = RuntimeFailureError(f"{self._owner} failed: {type(exc).__name__}")
            return native.encode_error(frame.request_id, error)

    def _call(self, frame: Frame) -> dict[str, Any]:
        call = native.decode_call(frame)
        if call.verb != "load":
            raise InvalidRequestError(f'a worker knows no call "{call.verb[:64]}"')
        return self._load(call.arguments)

    def _load(self, arguments: dict[str, Any]) -> dict[str, Any]:
        job = decoding.convert(arguments, LoadJob, strict=False)
        self._owner = f'model "{job.model}"'
        if job.may_wait_awake:
            self._patience = self._awake(_SPIN_NS)
        self._cap(job.memory_bytes)
        runtime = create_runtime(job.runtime, threads=job.threads, is_expendable=True)
        version = runtime.info().version
        forget_peak()
        before = taken()
        file = self._file if self._file is not None else job.file
        data = [read_piece(file, piece) for piece in job.pieces]
        os.close(file)
        sidecars = dict(zip((piece.name for piece in job.pieces[1:]), data[1:], strict=True))
        artefact = Artefact(job.model, data[0], specs(job.inputs), specs(job.outputs), sidecars)
        self._session = session = runtime.load(artefact)
        if has_fixed_places(artefact.inputs):
            self._prepared = PreparedCall(session, artefact.inputs, artefact.outputs)
        del artefact, data, sidecars
        gc.collect()
        # What lives now lives for ever: later collections need not look at it again.
        gc.freeze()
        return {
            "version": version,
            "inputs": [(s.name, s.dtype, s.shape) for s in session.inputs],
            "outputs": [(s.name, s.dtype, s.shape) for s in session.outputs],
            "before": before,
            "placed": getattr(session, "placed", None),
        }

    def _loaded(self) -> Session:
        if self._session is None:
            raise InvalidRequestError("nothing is loaded yet")
        return self._session

    def _answer_lone(self, data: memoryview, count: int) -> bytes | None:
        """Answer a RUN frame that came alone in the shortest way; None for anything else."""
        asked = prepared_runs.peek_run(data, count)
        if asked is None or self._prepared is None:
            return None
        request_id, _, rows, size, _, at, _ = asked
        lane = self._prepared.lane(rows)
        if lane is None or lane.size != size:
            return None
        return lane.ask(data, request_id, "", at)

    def _run(self, frame: Frame) -> list[Buffer]:
        call = self._prepared
        if call is None:
            raise InvalidRequestError("no layout was agreed on")
        rows = prepared_runs.decode_run_head(frame).rows
        outputs = self._loaded().run(prepared_runs.decode_run_body(frame.data, call.inputs, rows))
        response = InferResponse("", 0, 0, outputs)
        buffers = None
        if call.answers is not None:
            buffers = prepared_runs.encode_answer(frame.request_id, response, call.answers, rows)
        return buffers or native.encode_response(frame.request_id, response)

    def _infer(self, frame: Frame) -> list[Buffer]:
        session = self._loaded()
        repeats = self._repeats
        inputs = repeats.decode(frame)
        if inputs is None:
            inputs = dict(native.decode_infer(frame, LIMITS)[0].inputs)
            repeats.learn_layout(frame, inputs)
        outputs = session.run(inputs)
        buffers = repeats.encode(Kind.RESULT, frame.request_id, outputs)
        if buffers is None:
            buffers = native.encode_response(frame.request_id, InferResponse("", 0, 0, outputs))
            repeats.learn(outputs, buffers)
        return buffers

    def _send(self, buffers: list[Buffer]) -> None:
        if len(buffers) > 1 and sum(map(len, buffers)) <= 64 << 10:
            buffers = [b"".join(buffers)]
        for buffer in buffers:
            self._sock.sendall(buffer)


def read_piece(file: int, piece: Piece) -> bytes:
    """One stretch of the memory file; the kernel gives two gigabytes at a time at most.

    Raises:
        InvalidRequestError: the file ends before the piece does.
    """
    data = os.pread(file, piece.size, piece.offset)
    if len(data) == piece.size:
        return data
    parts = [data]
    have = len(data)
    while have < piece.size:
        part = os.pread(file, piece.size - have, piece.offset + have)
        if not part:
            raise InvalidRequestError(f'"{piece.name}" has {have} of {piece.size} bytes')
        parts.append(part)
        have += len(part)
    return b"".join(parts)


def cap_memory(size: int) -> None:
    """Let no more than ``size`` bytes of private memory be taken; 0 for no cap."""
    if size:
        # DATA and not AS: backends reserve address space by the gigabyte that they never touch.
        resource.setrlimit(resource.RLIMIT_DATA, (size, size))


def confine(descriptors: int = _DESCRIPTORS) -> None:
    """End with the parent, leave no core file, and hold few descriptors."""
    parent = os.getppid()
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes  # noqa: PLC0415 - the one call that Python has no name for

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = descriptors if hard == resource.RLIM_INFINITY else min(descriptors, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def ignore_terminal() -> None:
    """The service manager speaks to the parent; Ctrl-C at a terminal reaches the whole group."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def main(arguments: list[str]) -> int:
    """Serve on the inherited descriptor that the only argument names."""
    ignore_terminal()
    faulthandler.enable()
    confine()
    with socket.socket(fileno=int(arguments[0])) as sock:
        sock.setblocking(True)
        with contextlib.suppress(ConnectionError):
            Worker(sock).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
