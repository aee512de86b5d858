"""Processes for trials that are there at once: copies of one that has imported the runtime.

The parent's side of ``forks.py``. The trial of a small model takes a fraction of what it
takes in a process that is started for it, and still has one of its own. The process that is copied
is started for the first trial, and ended when none came for a moment.

Used from the loader's thread, and from that of a timer.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import socket
import threading
from collections.abc import Callable

from edged.errors import LoadError
from edged.workers.process import Death, WorkerProcess, death_of, socket_pair
from edged.workers.shared import Enter

log = logging.getLogger("edged.serving")

_MODULE = "edged.workers.forks"
_SETTINGS = {"OPENBLAS_NUM_THREADS": "1"}
"""NumPy's own threads are of no use to a worker, and a process with threads is not copied."""
RUNTIMES = frozenset({"onnxruntime"})
"""What may be copied once it is imported: it has begun nothing then. Drivers and packages that
others make may have."""
_LINGER_S = 1.0
"""For the next trial; then its memory is worth more."""
_IMPORT_S = 120.0
_ANSWER_S = 30.0
"""Far more than its answers take; a machine may be busy."""
_DEATH_MS = 500
_WORD_BYTES = 256


class Forked:
    """One copy; what a ``WorkerProcess`` is to a session.

    Args:
        forks: what it was copied from.
        pid: its number.
        sock: our end of its socket.
        memory_bytes: what it may take.
    """

    def __init__(self, forks: _Forks, pid: int, sock: socket.socket, memory_bytes: int) -> None:
        self.socket = sock
        self.pid = pid
        self.cap_bytes = memory_bytes
        self._forks = forks
        self._is_over = False

    def settle(self) -> None:
        """Nothing: a trial keeps the priority that it has."""

    def widen(self) -> socket.socket:
        """A trial has one way."""
        raise OSError("a trial has one way")

    def end(self, wait_s: float = 0.0) -> None:
        """Kill it; may be called twice."""
        self.socket.close()
        if not self._is_over:
            self._is_over = True
            self._forks.end(self.pid, wait_s)

    def death(self) -> Death:
        """How it ended; asked when the socket was closed from the other side."""
        with contextlib.suppress(OSError):
            status = self._forks.ask(f"wait {self.pid} {_DEATH_MS}")
            if status not in ("running", "gone"):
                return death_of(int(status))
        return Death("closed its connection and was ended")

    def condemn(self, words: str) -> Death:
        """End it, for what its model did."""
        self.end()
        return Death(words)


class _Forks:
    """The process that is copied, from its start to its end.

    Args:
        runtime: what it imports.
        nice: added to the daemon's priority; copies have it too.

    Raises:
        LoadError: it cannot be started.
        OSError: it ended, or does not answer.
    """

    def __init__(self, runtime: str, nice: int) -> None:
        self.runtime = runtime
        self.alive = 0
        self._lock = threading.Lock()
        nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)  # it has no report to write
        try:
            self._process = WorkerProcess(nothing, nice, _MODULE, socket.SOCK_SEQPACKET, _SETTINGS)
        finally:
            os.close(nothing)
        try:
            self._process.socket.settimeout(_IMPORT_S)
            self.problem = self.ask(f"import {runtime}").removeprefix("ready")
            self._process.socket.settimeout(_ANSWER_S)
        except BaseException:
            self.close()
            raise

    def is_ready(self, runtime: str) -> bool:
        """Whether it is there, and has imported this one."""
        try:
            return self.runtime == runtime and self.ask(f"import {runtime}") == "ready"
        except OSError:
            return False

    def ask(self, words: str, *files: int) -> str:
        """Say something over the door, and wait for the answer; raises OSError."""
        with self._lock:
            socket.send_fds(self._process.socket, [words.encode("ascii")], files)
            answer = self._process.socket.recv(_WORD_BYTES)
        if not answer:
            raise ConnectionResetError("it ended")
        return answer.decode("ascii")

    def copy(self, file: int, memory_bytes: int) -> Forked:
        """Copy it for one model.

        Raises:
            LoadError: it cannot be copied.
        """
        ours, theirs = socket_pair()
        with theirs, contextlib.ExitStack() as undo:
            undo.callback(ours.close)
            try:
                pid = int(self.ask("fork", theirs.fileno(), file))
            except OSError as exc:
                raise LoadError(f"a worker process cannot be started: {exc}") from exc
            undo.pop_all()
        self.alive += 1
        return Forked(self, pid, ours, memory_bytes)

    def end(self, pid: int, wait_s: float) -> None:
        """Kill a copy, and wait so long until it is gone."""
        self.alive -= 1
        with contextlib.suppress(OSError):
            self.ask(f"kill {pid}")
            self.ask(f"wait {pid} {wait_s * 1000:.0f}")

    def close(self) -> None:
        """End it."""
        self._process.end(_ANSWER_S)


class ForkedWorkers:
    """Gives trials their processes.

    Args:
        nice: added to the daemon's priority.
        linger_s: how long it waits for the next trial.
    """

    def __init__(self, nice: int, linger_s: float = _LINGER_S) -> None:
        self._nice = nice
        self._linger_s = linger_s
        self._lock = threading.Lock()
        self._forks: _Forks | None = None
        self._cannot: set[str] = set()
        self._timer: threading.Timer | None = None

    def enter_for(self, runtime: str) -> Enter | None:
        """How the next trial on a runtime gets its process; None for one that is started for it."""
        with self._lock:
            can = self._ready(runtime) is not None
        return functools.partial(self._enter, runtime) if can else None

    def _enter(
        self, runtime: str, file: int, memory_bytes: int, _is_running: Callable[[], bool]
    ) -> Forked:
        with self._lock:
            forks = self._ready(runtime)  # it may have gone meanwhile
            if forks is None:
                raise LoadError("a worker process cannot be started: what it is copied from ended")
            return forks.copy(file, memory_bytes)

    def _ready(self, runtime: str) -> _Forks | None:
        if runtime not in RUNTIMES or runtime in self._cannot:
            return None
        if self._forks is None or not self._forks.is_ready(runtime):
            self._close()
            self._forks = self._begin(runtime)
        self._keep()
        return self._forks

    def _begin(self, runtime: str) -> _Forks | None:
        try:
            forks = _Forks(runtime, self._nice)
        except (OSError, LoadError) as exc:
            log.warning("trials on %s start a process each: %s", runtime, exc)
            return None
        if forks.problem:
            log.warning("trials on %s start a process each: %s", runtime, forks.problem)
            self._cannot.add(runtime)
            forks.close()
            return None
        return forks

    def _keep(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = threading.Timer(self._linger_s, self.rest)
        self._timer.daemon = True
        self._timer.start()

    def rest(self) -> None:
        """End the process that is copied, unless a trial is under way; then later."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            if self._forks is not None and self._forks.alive:
                self._keep()
            else:
                self._close()

    def _close(self) -> None:
        forks, self._forks = self._forks, None
        if forks is not None:
            forks.close()
