"""One worker process: started, handed its model, and ended; and how it died.

Decides nothing about what it is asked. The process is our child; it inherits one socket and one
memory file that nobody can change any more, and no secrets.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import msgspec

from edged.errors import LoadError
from edged.runtimes.base import Artefact
from edged.system.child import child_environment
from edged.system.timeslice import usual_nice
from edged.workers.blame import Blame
from edged.workers.worker import LoadJob, Piece

_CRASHES = frozenset(
    {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT, signal.SIGSYS}
)
"""Signals that a process brings upon itself. SIGKILL comes from outside: from us, or from a kernel
that is short of memory."""
NO_SETTINGS: Mapping[str, str] = MappingProxyType({})
_SOCKET_BYTES = 4 << 20
"""Room for a camera frame on its way, so that sender and receiver need not take turns."""
_REAP_S = 0.5
"""A process whose socket is closed is gone, but for the last steps of the kernel: those of a nice
one on a busy machine may take a while, and a crash that is not seen as one leaves nobody out."""


@dataclass(frozen=True, slots=True)
class Death:
    """How a process ended.

    Args:
        words: for people, e.g. ``died of SIGSEGV``.
        crash: the signal it brought upon itself; empty when the end came from outside.
        blame: what it means for the model that was in it.
    """

    words: str
    crash: str = ""
    blame: Blame = Blame.OWN


@dataclass(frozen=True, slots=True)
class WorkerCaps:
    """What one worker process may take.

    Args:
        threads: threads of one run; 0 for one a core.
        memory_bytes: private memory; 0 for no cap.
        load_timeout_s: from the start of the process to the loaded model, seconds.
        run_timeout_s: of one run, seconds; then the process is killed.
        nice: added to its priority.
        ways: runs that may be under way at once.
    """

    threads: int = 0
    memory_bytes: int = 0
    load_timeout_s: float = 120.0
    run_timeout_s: float = 30.0
    nice: int = 0
    ways: int = 1


class Hosting(Protocol):
    """What a session needs of the process it lives in: one of its own, or a place in one."""

    socket: socket.socket

    @property
    def pid(self) -> int:
        """Of the process."""
        ...

    def settle(self) -> None:
        """The model is loaded: from now on it serves."""
        ...

    def end(self, wait_s: float = 0.0) -> None:
        """Give it up; may be called twice."""
        ...

    def death(self) -> Death:
        """How it ended; asked when the socket was closed from the other side."""
        ...


class Place(Hosting, Protocol):
    """A place in a process, or the process itself, that somebody else started."""

    @property
    def cap_bytes(self) -> int:
        """What the process may take, with all that are in it."""
        ...

    def condemn(self, words: str) -> Death:
        """End the process, for what this model did: nothing less stops a run."""
        ...

    def widen(self) -> socket.socket:
        """One more way to the model, which is loaded: our end.

        Raises:
            OSError: the process is gone.
        """
        ...


def _at_most(limit: int, most: int) -> int:
    return most if limit == resource.RLIM_INFINITY else min(limit, most)


class WorkerProcess:
    """A child and our end of its socket.

    Args:
        file: descriptor that it inherits under the same number.
        nice: added to the daemon's own priority. Until ``settle`` it has that of the thread that
            starts it where that is lower: a loader's, for half a second of imports and the load of
            a model would be taken from those who serve.
        module: what it runs; it is told the numbers of its socket and of the file.
        kind: of the socket.
        settings: added to its environment.
    """

    def __init__(
        self,
        file: int,
        nice: int = 0,
        module: str = "edged.workers.worker",
        kind: socket.SocketKind = socket.SOCK_STREAM,
        settings: Mapping[str, str] = NO_SETTINGS,
    ) -> None:
        try:
            self.socket, self._child = _start(file, module, kind, settings)
        except OSError as exc:
            raise LoadError(f"a worker process cannot be started: {exc.strerror}") from exc
        self._nice = usual_nice() + nice
        # One that has ended already shows at the next read.
        with contextlib.suppress(OSError, ValueError):
            if os.getpriority(os.PRIO_PROCESS, self._child.pid) < self._nice:
                os.setpriority(os.PRIO_PROCESS, self._child.pid, self._nice)
            # What LimitNICE= lets the loop have is not for what a model brings.
            limits = resource.prlimit(self._child.pid, resource.RLIMIT_NICE)
            most = max(20 - self._nice, 0)  # what is below 0 would be no limit
            soft, hard = (_at_most(limit, most) for limit in limits)
            resource.prlimit(self._child.pid, resource.RLIMIT_NICE, (soft, hard))

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._child.pid

    def settle(self) -> None:
        """Give it the priority that it serves with, as far as LimitNICE= lets it come up."""
        # Each thread has its own; the first one first, for new ones come with that of their maker.
        with contextlib.suppress(OSError, ValueError):
            for thread in sorted(int(path.name) for path in self._threads()):
                os.setpriority(os.PRIO_PROCESS, thread, self._nice)

    def _threads(self) -> Iterator[Path]:
        return Path(f"/proc/{self._child.pid}/task").iterdir()

    def end(self, wait_s: float = 0.0) -> None:
        """Kill it and close our end, and wait so long until it is gone; may be called twice."""
        self.socket.close()
        self._child.kill()
        if wait_s:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(wait_s)
        with _dead_lock:
            _dead.append(self._child)
        reap()

    def death(self, wait_s: float = _REAP_S) -> Death:
        """How it ended; asked when its socket was closed from the other side."""
        try:
            status = self._child.wait(wait_s)
        except subprocess.TimeoutExpired:
            return Death("closed its connection and was ended")
        return death_of(status)


def death_of(status: int) -> Death:
    """What an exit status says, negative for a signal."""
    if status >= 0:
        return Death(f"ended with status {status}")
    name = f"signal {-status}"
    with contextlib.suppress(ValueError):
        name = signal.Signals(-status).name
    return Death(f"died of {name}", name if -status in _CRASHES else "")


_dead: list[subprocess.Popen[bytes]] = []
"""Killed, and not gone yet when we looked: a process inside the kernel takes its time."""


_dead_lock = threading.Lock()
"""Trials end on the loader's thread, workers that serve on the event loop."""


def reap() -> None:
    """Take note of killed processes that are gone by now."""
    with _dead_lock:
        _dead[:] = [one for one in _dead if one.poll() is None]


def _start(
    file: int, module: str, kind: socket.SocketKind, settings: Mapping[str, str]
) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    ours, theirs = socket_pair(kind)
    with theirs, contextlib.ExitStack() as undo:
        undo.callback(ours.close)
        child = subprocess.Popen(
            [sys.executable, "-s", "-m", module, str(theirs.fileno()), str(file)],
            pass_fds=(theirs.fileno(), file),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            cwd="/",
            env={**child_environment(), **settings},
        )
        undo.pop_all()
    return ours, child


def socket_pair(
    kind: socket.SocketKind = socket.SOCK_STREAM,
) -> tuple[socket.socket, socket.socket]:
    """Our end, which does not block, and the worker's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    for end in (ours, theirs):
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            end.setsockopt(socket.SOL_SOCKET, option, _SOCKET_BYTES)
    ours.setblocking(False)
    return ours, theirs


@contextlib.contextmanager
def handed_over(artefact: Artefact) -> Iterator[tuple[int, list[Piece]]]:
    """An artefact as a sealed memory file: its descriptor, and where its files lie in it.

    Raises:
        LoadError: there is no memory for it.
    """
    files = [("", artefact.data), *artefact.sidecars.items()]
    pieces, offset = [], 0
    for name, data in files:
        pieces.append(Piece(name, offset, len(data)))
        offset += len(data)
    fd = _memory_file([data for _, data in files])
    try:
        yield fd, pieces
    finally:
        os.close(fd)


def load_arguments(
    runtime: str, artefact: Artefact, caps: WorkerCaps, file: int, pieces: list[Piece]
) -> dict[str, Any]:
    """Of CALL ``load``; see ``worker.LoadJob``."""
    job = LoadJob(
        model=artefact.model,
        runtime=runtime,
        threads=caps.threads,
        memory_bytes=caps.memory_bytes,
        may_wait_awake=not caps.nice,
        file=file,
        pieces=pieces,
        inputs=[(s.name, s.dtype, s.shape) for s in artefact.inputs],
        outputs=[(s.name, s.dtype, s.shape) for s in artefact.outputs],
    )
    arguments: dict[str, Any] = msgspec.to_builtins(job)
    return arguments


def _memory_file(parts: Sequence[bytes]) -> int:
    """A file in memory that nobody can change any more."""
    fd = -1
    try:
        fd = os.memfd_create("edged-artefact", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        for part in parts:
            view = memoryview(part)
            while view:
                view = view[os.write(fd, view) :]
        _seal(fd)
    except OSError as exc:
        if fd >= 0:
            os.close(fd)
        raise LoadError(f"no memory to hand the model to a worker: {exc.strerror}") from exc
    return fd


def _seal(fd: int) -> None:
    every = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, every)
