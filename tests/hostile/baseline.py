"""What an attack must leave as it was: the daemon's descriptors and memory, and a neighbour's answers.

The neighbour's p99 too: that of the last answers has to come back to what it was before. A daemon that
an attack made slower for good (a list that grew, a timer that stayed) never comes back. A machine that
has become busy with something else would look the same, so a process that does nothing but echo is
asked in turns with the daemon, and how much slower it has become is allowed to the daemon too.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from edged.errors import EdgedError
from tests.e2e.process import DaemonProcess, wait_for

SETTLE_S = 20.0
"""Five seconds are promised; a loaded machine gets more, and the time it took is printed."""
SLOWER, SLACK_MS, WINDOW = 3.0, 1.0, 100
"""Times the p99 before, and a millisecond more; over so many answers, which take a quarter of a second."""
P99_S = 45.0
ECHO = """
import socket, sys
s = socket.socket(fileno=int(sys.argv[1]))
while data := s.recv(64):
    s.sendall(data)
"""
MEMORY_MIB = 16
"""What the allocators may keep of what was freed; a leak of one frame in each attack is more."""

THREADS = 4
"""Pools start their threads when they have work; a thread that a client leaves behind is one of
hundreds."""


class Neighbour(threading.Thread):
    """A client that asks all the time and holds every answer against what it must be."""

    def __init__(self, daemon: DaemonProcess) -> None:
        super().__init__(name="neighbour", daemon=True)
        self._daemon_process = daemon
        self._stopped = threading.Event()
        self.failures: list[str] = []
        self.times_ms: list[float] = []
        self.echoes_ms: list[float] = []

    def run(self) -> None:
        rng = np.random.default_rng(11)
        try:
            with self._daemon_process.client(timeout=60) as client, echoing() as echo:
                while not self._stopped.wait(0.002):
                    x = rng.normal(size=(1 + len(self.times_ms) % 3, 4)).astype(np.float32)
                    began = time.perf_counter()
                    y = client.infer("m", x=x)["y"]
                    self.times_ms.append((time.perf_counter() - began) * 1e3)
                    if not np.array_equal(y, x * 2):
                        self.failures.append(f"{x} gave {y}")
                    began = time.perf_counter()
                    echo.sendall(b"?")
                    echo.recv(1)
                    self.echoes_ms.append((time.perf_counter() - began) * 1e3)
        except EdgedError as exc:
            self.failures.append(f"{type(exc).__name__}: {exc}")

    def has_answers(self, count: int) -> bool:
        """Whether so many came; raises when one was wrong or none can come any more."""
        assert not self.failures, self.failures[:3]
        assert self.is_alive()
        return len(self.times_ms) >= count

    def p99_ms(self) -> tuple[float, float]:
        """Of the last answers, and of the echoes beside them."""
        answers, echoes = (one[-WINDOW:] for one in (self.times_ms, self.echoes_ms))
        return float(np.percentile(answers, 99)), float(np.percentile(echoes, 99))

    def is_as_quick_as(self, before_ms: tuple[float, float], since: int) -> bool:
        """Whether the last answers, all of them after the first ``since``, come as quickly."""
        if not self.has_answers(since + WINDOW):
            return False
        answers_ms, echoes_ms = self.p99_ms()
        busier = times_busier(before_ms[1], echoes_ms)
        return answers_ms <= before_ms[0] * busier * SLOWER + SLACK_MS

    def finish(self) -> None:
        self._stopped.set()
        self.join(70)
        assert not self.is_alive()
        assert not self.failures, self.failures[:3]


def times_busier(before_ms: float, after_ms: float) -> float:
    """How much slower the machine itself has become, by the p99 of the echoes; at least one."""
    return max(1.0, after_ms / before_ms)


@contextlib.contextmanager
def echoing() -> Iterator[socket.socket]:
    """Our end of a process that sends back what it gets."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            command = [sys.executable, "-S", "-c", ECHO, str(theirs.fileno())]
            child = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        try:
            yield ours
        finally:
            child.kill()
            child.wait()


@dataclass(frozen=True)
class Footprint:
    """What a process holds."""

    descriptors: int
    children: int
    memory_mib: float
    threads: int
    shared: int

    @classmethod
    def of(cls, daemon: DaemonProcess) -> Footprint:
        process = process_of(daemon)
        maps = Path(f"/proc/{process.pid}/maps").read_text()
        return cls(
            process.num_fds(),
            len(process.children()),
            process.memory_info().rss / (1 << 20),
            process.num_threads(),
            maps.count("/memfd:"),
        )

    def is_back_at(self, before: Footprint, memory_mib: float) -> bool:
        return (
            self.descriptors <= before.descriptors
            and self.children <= before.children
            and self.threads <= before.threads + THREADS
            and self.shared <= before.shared
            and self.memory_mib <= before.memory_mib + memory_mib
        )


def process_of(daemon: DaemonProcess) -> psutil.Process:
    assert daemon.process is not None
    return psutil.Process(daemon.process.pid)


@contextlib.contextmanager
def undisturbed(
    daemon: DaemonProcess,
    memory_mib: float = MEMORY_MIB,
    settle_s: float = SETTLE_S,
    p99_s: float = P99_S,
) -> Iterator[Neighbour]:
    """Around an attack: a neighbour is answered rightly throughout, and all is back afterwards."""
    assert daemon.process is not None
    pid = daemon.process.pid
    neighbour = Neighbour(daemon)
    neighbour.start()
    try:
        wait_for(lambda: neighbour.has_answers(WINDOW))
        before, quiet = Footprint.of(daemon), len(neighbour.times_ms)
        quick_ms = neighbour.p99_ms()
        yield neighbour
        ended, during = time.monotonic(), len(neighbour.times_ms)
        # First some turns of the daemon's loop: it may not even have seen the last connection.
        wait_for(lambda: neighbour.has_answers(during + 50))
        after: list[Footprint] = []

        def is_back() -> bool:
            after.append(Footprint.of(daemon))
            return after[-1].is_back_at(before, memory_mib)

        try:
            wait_for(is_back, settle_s)
        except AssertionError:
            raise AssertionError(f"before {before}, after {after[-1]}") from None
        took = time.monotonic() - ended
        try:
            wait_for(lambda: neighbour.is_as_quick_as(quick_ms, during), p99_s)
        except AssertionError:
            words = f"p99 and that of an echo, ms: {quick_ms} before, {neighbour.p99_ms()} after"
            raise AssertionError(words) from None
    finally:
        neighbour.finish()
    assert daemon.process.poll() is None
    assert daemon.process.pid == pid
    times = neighbour.times_ms
    parts = {"before": times[:quiet], "during": times[quiet:during], "after": times[during:]}
    worst = {word: f"{np.percentile(part or [0], 99):.2f}" for word, part in parts.items()}
    print(f"\n{before} -> {after[-1]} in {took:.2f} s; the neighbour's p99 in ms: {worst}")


@contextlib.contextmanager
def bounded_peak(daemon: DaemonProcess, memory_mib: float) -> Iterator[None]:
    """The daemon's memory never rises by more than this in between, not even for a moment."""
    assert daemon.process is not None
    folder = Path(f"/proc/{daemon.process.pid}")
    try:
        (folder / "clear_refs").write_text("5")  # the kernel's high-water mark starts anew
    except OSError:
        yield  # a kernel without it
        return
    before = process_of(daemon).memory_info().rss / (1 << 20)
    yield
    lines = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
    peak = int(lines["VmHWM"].split()[0]) / 1024
    assert peak - before <= memory_mib, f"{before:.0f} MiB before, {peak:.0f} MiB at the peak"
