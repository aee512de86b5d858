"""The daemon as a process, with its own directory, configuration and log."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from edged.client import Client
from edged.errors import EdgedError

START_S = 60.0


def wait_for(what: Callable[[], Any], seconds: float = 20.0, every: float = 0.02) -> Any:
    """Poll until ``what`` is true; fails with its last value."""
    until = time.monotonic() + seconds
    while True:
        value = what()
        if value:
            return value
        assert time.monotonic() < until, f"not within {seconds} s: {what} gave {value!r}"
        time.sleep(every)


class DaemonProcess:
    """``edged run`` in a directory; edged.yaml and the state are inside.

    Args:
        directory: its own.
        prefix: a command that starts the command, such as ``ip netns exec``; it must not fork.
        module: what Python runs.
    """

    def __init__(
        self, directory: Path, prefix: tuple[str, ...] = (), module: str = "edged"
    ) -> None:
        self.directory = directory
        self._command = [*prefix, sys.executable, "-m", module]
        self.config = directory / "edged.yaml"
        self.socket = directory / "edged.sock"
        self.log = directory / "daemon.log"
        self.process: subprocess.Popen[bytes] | None = None

    def write(self, body: str, *, atomic: bool = True) -> None:
        """Save edged.yaml: the fixed head, then ``body``."""
        text = self.head() + body
        if not atomic:
            self.config.write_text(text)
            return
        temporary = self.config.with_suffix(".tmp")
        temporary.write_text(text)
        temporary.replace(self.config)

    def head(self) -> str:
        return (
            f"node: test\nstate_dir: {self.directory}/state\n"
            f"listen: {{socket: {{path: {self.socket}}}}}\n"
        )

    def start(self, *, wait: bool = True, **env: str) -> DaemonProcess:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._command, "run", "--config", str(self.config)],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                # Else each start compiles all modules anew, which takes longer than the rest of it.
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "", **env},
            )
        if wait:
            wait_for(self.is_up, START_S)
        return self

    def is_up(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"the daemon ended:\n{self.tail()}"
        if not self.socket.exists():
            return False
        try:
            with self.client(timeout=5) as client:
                return bool(client.status()["live"])
        except EdgedError:
            return False

    def client(self, timeout: float = 10.0) -> Client:
        return Client(self.socket, timeout=timeout)

    def status(self) -> dict[str, Any]:
        with self.client() as client:
            return client.status()

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        process = self.process
        if process is None:
            return 0
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
                raise
        return process.returncode

    def tail(self, lines: int = 40) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


@contextlib.contextmanager
def running(directory: Path, body: str, **env: str) -> Iterator[DaemonProcess]:
    """A daemon that serves; stopped at the end."""
    daemon = DaemonProcess(directory)
    daemon.write(body)
    try:
        yield daemon.start(**env)
    finally:
        daemon.stop()
