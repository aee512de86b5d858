"""The demo's processes: started, listened to, waited for, and ended by their own id."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

STOP_S = 15.0
ENVIRONMENT = {
    **os.environ,
    "ORT_DISABLE_TELEMETRY": "1",
    "PYTHONUNBUFFERED": "1",
    # The demo's models are tiny: threads of their libraries would only get in each other's way.
    "OMP_NUM_THREADS": "1",
}


class DemoError(Exception):
    """The demo cannot go on; says why and where the log is."""


class Process:
    """One child. Its log is a file; its standard output is lines of JSON where ``lines`` is set.

    Args:
        command: program and arguments.
        log: file that takes stderr (and stdout, without ``lines``).
        lines: where decoded lines go.
    """

    def __init__(
        self, command: list[str], log: Path, lines: Callable[[dict[str, Any]], None] | None = None
    ) -> None:
        self.log = log
        self.command = command
        with log.open("ab") as file:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if lines else file,
                stderr=file,
                text=True,
                env=ENVIRONMENT,
            )
        self._reader = threading.Thread(target=self._read, args=(lines,), daemon=True)
        if lines:
            self._reader.start()

    def _read(self, lines: Callable[[dict[str, Any]], None]) -> None:
        for line in self._child.stdout or ():
            lines(json.loads(line))

    @property
    def pid(self) -> int:
        """Process id."""
        return self._child.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._child.poll() is None

    def finish(self) -> None:
        """End its standard input, wait until it has ended by itself and all lines are read."""
        if self._child.stdin:
            self._child.stdin.close()
        self._child.wait(STOP_S)
        if self._reader.is_alive():
            self._reader.join(STOP_S)

    def stop(self) -> int:
        """Ask it to end, and make it end."""
        self._child.terminate()
        try:
            return self._child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            return self._child.wait()

    def tail(self, lines: int = 12) -> str:
        """The end of its log."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        return ""


class Processes:
    """All children of the demo; leaving the context ends those that still run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._all: list[Process] = []

    def __enter__(self) -> Processes:  # noqa: PYI034 - typing.Self is not in Python 3.10
        return self

    def __exit__(self, *_exception: object) -> None:
        for process in reversed(self._all):
            if process.is_running:
                process.stop()

    def start(
        self,
        name: str,
        command: list[str],
        lines: Callable[[dict[str, Any]], None] | None = None,
    ) -> Process:
        """Start a program whose log is NAME.log."""
        process = Process(command, self._folder / f"{name}.log", lines)
        self._all.append(process)
        return process


def free_port() -> int:
    """A TCP port of this machine that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port


def is_listening(port: int) -> bool:
    """Whether somebody accepts connections there."""
    with socket.socket() as sock:
        sock.settimeout(1)
        return sock.connect_ex(("127.0.0.1", port)) == 0


def wait_for(what: str, check: Callable[[], Any], process: Process, seconds: float = 20) -> Any:
    """Ask until ``check`` returns something true.

    Raises:
        DemoError: the process ended, or the time is over; quotes its log.
    """
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if answer := check():
            return answer
        if not process.is_running:
            break
        time.sleep(0.05)
    raise DemoError(f"{what}: not within {seconds:.0f} s\n{process.tail()}\n({process.log})")


def run_together(
    commands: dict[str, list[str]], folder: Path, width: int
) -> Iterator[tuple[str, subprocess.CompletedProcess[str]]]:
    """Run commands, ``width`` at a time; yields each with its outcome as it ends."""
    waiting, done = list(commands.items()), queue.SimpleQueue[Any]()

    def work() -> None:
        while waiting:
            with contextlib.suppress(IndexError):
                name, command = waiting.pop(0)
                outcome = subprocess.run(
                    command, cwd=folder, capture_output=True, text=True, check=False,
                    env=ENVIRONMENT,
                )  # fmt: skip
                done.put((name, outcome))

    for _ in range(width):
        threading.Thread(target=work, daemon=True).start()
    for _ in commands:
        yield done.get()


def program(name: str) -> str:
    """A program of this environment, else the bare name for $PATH."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else name
