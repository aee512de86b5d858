"""A peer as a process: started, waited for, made to rest, ended."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.idle import family
from benchmarks.peers import asking
from benchmarks.stand import BenchError

READY_S, ANSWER_S, STOP_S = 90.0, 5.0, 10.0


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that the kernel says are free; all different."""
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(count):
            sock = stack.enter_context(socket.socket())
            sock.bind(("127.0.0.1", 0))
            found.append(sock.getsockname()[1])
    return found


def exchange(place: int | str, request: bytes, limit_s: float = ANSWER_S) -> tuple[int, bytes]:
    """Ask once on a connection of its own.

    Args:
        place: a port of 127.0.0.1, or the path of a Unix socket.
        request: a whole HTTP request.
        limit_s: for each read.

    Returns:
        The status and the body.

    Raises:
        OSError: nobody answered.
        ValueError: what came is no answer with a length.
    """
    kind = socket.AF_INET if isinstance(place, int) else socket.AF_UNIX
    with socket.socket(kind) as sock:
        sock.settimeout(limit_s)
        sock.connect(("127.0.0.1", place) if isinstance(place, int) else place)
        sock.sendall(request)
        data = b""
        while b"\r\n\r\n" not in data:
            if not (more := sock.recv(1 << 16)):
                raise ConnectionError(f"closed after {data[:100]!r}")
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        lines = [line.partition(b":") for line in head.lower().split(b"\r\n")[1:]]
        lengths = [int(value) for name, _, value in lines if name == b"content-length"]
        if len(lengths) != 1:
            raise ValueError(f"an answer without Content-Length: {head[:200]!r}")
        while len(body) < lengths[0]:
            if not (more := sock.recv(1 << 16)):
                raise ConnectionError("closed within a body")
            body += more
        return int(head.split(None, 2)[1]), body


class Server:
    """One process and its children.

    Args:
        name: for people.
        command: and its arguments.
        folder: where it may write; its log is there.
        environment: variables besides those of this process.
        place: where it runs; its folder when None.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        folder: Path,
        environment: Mapping[str, str],
        place: Path | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.name, self.log = name, folder / "log"
        self._known: set[int] = set()
        self._began = time.monotonic()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                list(map(str, command)), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd=place or folder, start_new_session=True,
                env={**os.environ, "HOME": str(folder), "DO_NOT_TRACK": "1", **environment},
            )  # fmt: skip

    def wait(self, port: int, request: bytes, values: np.ndarray[Any, Any]) -> tuple[float, bytes]:
        """Wait for the first right answer.

        Returns:
            Seconds from exec to it, and the part of it that makes it right.

        Raises:
            BenchError: it ended, or never answered rightly; with the end of its log.
        """
        while True:
            if self._process.poll() is not None:
                why = f"it ended with {self._process.returncode}"
                break
            try:
                status, body = exchange(port, request)
                if status == 200:
                    return time.monotonic() - self._began, asking.wanted(body, values)
                why = f"status {status}: {body[:200]!r}"
            except (OSError, ValueError) as exc:
                why = str(exc)
            if time.monotonic() > self._began + READY_S:
                break
            time.sleep(0.02)
        raise BenchError(f"{self.name} does not serve: {why}\n{self.tail()}")

    def wait_for_port(self, port: int) -> float:
        """Wait until somebody listens; seconds from exec."""
        while time.monotonic() < self._began + READY_S and self._process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return time.monotonic() - self._began
            time.sleep(0.02)
        raise BenchError(f"{self.name} does not listen\n{self.tail()}")

    def result(self, limit_s: float) -> int:
        """Its exit status, once it ends by itself.

        Raises:
            BenchError: it did not.
        """
        try:
            return self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise BenchError(f"{self.name} took more than {limit_s:g} s\n{self.tail()}") from None

    def rest(self) -> None:
        """Stop its processes where they are, so that they take no time from the one measured."""
        for pid in self._family():
            self._signal(pid, signal.SIGSTOP)

    def wake(self) -> None:
        """Let them go on."""
        for pid in sorted(self._known | set(self._family()), reverse=True):
            self._signal(pid, signal.SIGCONT)

    def memory_mb(self) -> float:
        """Resident memory of all its processes, pages that they share counted in each (10^6)."""
        total = 0
        for pid in self._family():
            with contextlib.suppress(OSError):
                pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
                total += pages * os.sysconf("SC_PAGE_SIZE")
        return total / 1e6

    def processes(self) -> int:
        """How many they are."""
        return len(self._family())

    def end(self) -> None:
        """End it and whatever it started, by their numbers."""
        self.wake()
        self._signal(self._process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_S)
        for pid in sorted(self._known):
            if self._is_ours(pid):
                self._signal(pid, signal.SIGKILL)
        self._process.wait()

    def tail(self) -> str:
        """The end of its log."""
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(line[:300] for line in lines[-6:])

    def _family(self) -> list[int]:
        with contextlib.suppress(OSError):
            self._known |= set(family(self._process.pid))
        return sorted(pid for pid in self._known if self._is_ours(pid))

    def _is_ours(self, pid: int) -> bool:
        """Whether a number still belongs to a process of this session, or to a child of one."""
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return False
        return int(fields[3]) == self._process.pid or int(fields[1]) in self._known

    def _signal(self, pid: int, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            if pid != self._process.pid or self._process.poll() is None:
                os.kill(pid, number)
