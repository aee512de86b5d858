"""Where jobs run: the interface, and processes of this machine behind it."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

import msgspec

from converters.batch.job import Job, Message, Outcome

CHILD = "converters.batch.child"
GRACE_S = 15.0
"""For an interrupted job to end its framework's process and remove what it had begun."""
_TAIL_BYTES = 16 << 10
OnStep = Callable[[str, str], None]
"""Called with a job's name and the step that begins."""


class Executor(Protocol):
    """Runs jobs somewhere.

    Args:
        slots: how many jobs run at a time.
    """

    slots: int

    def submit(self, job: Job) -> None:
        """Start a job; called with fewer than ``slots`` running."""

    def next_done(self, timeout_s: float | None = None) -> Outcome | None:
        """Wait for the next job to end, however it ends; None when the time is over before."""

    def close(self) -> None:
        """End what runs; nothing half-written stays behind."""


@dataclass
class _Running:
    job: Job
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    since: float
    heard: bytes = b""
    outcome: Outcome | None = field(default=None)


class LocalExecutor:
    """Processes of this machine.

    Args:
        slots: how many at a time.
        on_step: told the steps.
    """

    def __init__(self, slots: int, on_step: OnStep = lambda _name, _step: None) -> None:
        self.slots = slots
        self._on_step = on_step
        self._selector = selectors.DefaultSelector()

    def submit(self, job: Job) -> None:
        """Start a process for the job."""
        paths = [str(Path(entry).absolute()) for entry in sys.path if entry]
        log = tempfile.TemporaryFile()  # noqa: SIM115  (closed when the job has ended)
        process = subprocess.Popen(
            [sys.executable, "-m", CHILD, str(os.getpid())],
            # Not where the user stands: a file called like a package there would be imported.
            cwd=os.sep,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            # Of a session of its own: Ctrl-C reaches it through us, once.
            start_new_session=True,
        )
        running = _Running(job, process, log, time.monotonic())
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError), process.stdin:
            process.stdin.write(msgspec.json.encode(job))
        self._selector.register(process.stdout, selectors.EVENT_READ, running)

    def next_done(self, timeout_s: float | None = None) -> Outcome | None:
        """Hear the processes until one has ended."""
        while ready := self._selector.select(timeout_s):
            for key, _ in ready:
                running: _Running = key.data
                if not self._hear(running):
                    self._selector.unregister(key.fileobj)
                    return _finish(running)
        return None

    def close(self) -> None:
        """Interrupt what runs, wait for it to clean up, and end what does not."""
        left: list[_Running] = [key.data for key in self._selector.get_map().values()]
        self._selector.close()
        try:
            for running in left:
                with contextlib.suppress(ProcessLookupError):
                    running.process.send_signal(signal.SIGINT)
            deadline = time.monotonic() + GRACE_S
            for running in left:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    running.process.wait(max(0.0, deadline - time.monotonic()))
        finally:
            for running in left:
                _close(running)

    def _hear(self, running: _Running) -> bool:
        """Take in what a process says; False at the end of it."""
        assert running.process.stdout is not None
        chunk = os.read(running.process.stdout.fileno(), 1 << 16)
        *lines, running.heard = (running.heard + chunk).split(b"\n")
        for line in lines:
            message = msgspec.json.decode(line, type=Message)
            if message.outcome is not None:
                running.outcome = message.outcome
            else:
                self._on_step(running.job.name, message.step)
        return bool(chunk)


def _finish(running: _Running) -> Outcome:
    status = running.process.wait()
    outcome = running.outcome
    if outcome is None:
        how = f"exit status {status}" if status >= 0 else signal.Signals(-status).name
        hint = " (out of memory?)" if status == -signal.SIGKILL else ""
        outcome = Outcome(
            name=running.job.name,
            status="failed",
            fingerprint=running.job.fingerprint,
            seconds=round(time.monotonic() - running.since, 3),
            error=f"its process ended with {how}{hint}: {_tail(running.log)}",
            exit=70,
        )
    _close(running)
    return outcome


def _close(running: _Running) -> None:
    """End the process and what it started in its own session, and let go of it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(running.process.pid, signal.SIGKILL)
    running.process.wait()
    assert running.process.stdout is not None
    running.process.stdout.close()
    running.log.close()


def _tail(log: IO[bytes]) -> str:
    log.seek(0, os.SEEK_END)
    log.seek(max(0, log.tell() - _TAIL_BYTES))
    lines = log.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1].strip()[:400] if lines else "it said nothing"
