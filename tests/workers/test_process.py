"""A worker's process: what it inherits, how its death is told, and that nothing of it stays."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from edged.errors import LoadError
from edged.runtimes.base import Artefact
from edged.system import child, timeslice
from edged.workers import process as worker_process
from edged.workers.process import Death, WorkerProcess, handed_over, reap
from edged.workers.worker import Piece
from tests.fakes.descriptors import descriptors
from tests.fakes.worker import wait_until

SECRET = "EDGED_TEST_PASSWORD"
TINY = Artefact("tiny", b"the model", (), ())


@pytest.fixture
def file() -> Iterator[int]:
    with handed_over(TINY) as (fd, _):
        yield fd


def is_serving(pid: int) -> bool:
    """``confine`` has run to its end: the last of its limits holds."""
    try:
        lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    except OSError:
        return False
    return any(line.split()[:4] == ["Max", "open", "files", "256"] for line in lines)


def nicer(nice: int) -> int:
    """A priority as the kernel takes it: these tests may themselves run as nice as can be."""
    return min(nice, 19)


def children() -> list[int]:
    return [child.pid for child in psutil.Process().children()]


class TestProcess:
    @pytest.mark.parametrize("nice", [0, 7])
    def test_loads_with_its_starters_priority_and_serves_with_its_own(self, file: int, nice: int):
        own = os.getpriority(os.PRIO_PROCESS, os.getpid())
        started: list[WorkerProcess] = []

        def load() -> None:
            os.setpriority(os.PRIO_PROCESS, 0, own + 5)  # of this thread alone
            started.append(WorkerProcess(file, nice))

        thread = threading.Thread(target=load)
        thread.start()
        thread.join(30)
        may_come_up = os.geteuid() == 0 or resource.getrlimit(resource.RLIMIT_NICE)[0] >= 20 - own
        served = nicer(own + nice if nice >= 5 or may_come_up else own + 5)
        pid = started[0].pid
        try:
            assert os.getpriority(os.PRIO_PROCESS, pid) == nicer(own + max(nice, 5))
            started[0].settle()
            assert os.getpriority(os.PRIO_PROCESS, pid) == served
        finally:
            started[0].end()

    def test_is_as_nice_as_the_daemon_not_as_its_loop(
        self, file: int, monkeypatch: pytest.MonkeyPatch
    ):
        own = os.getpriority(os.PRIO_PROCESS, os.getpid())
        monkeypatch.setattr(timeslice, "_usual", own + 2)  # as if the main thread had come up by 2
        process = WorkerProcess(file, 1)
        try:
            process.settle()
            assert os.getpriority(os.PRIO_PROCESS, process.pid) == min(own + 3, 19)
        finally:
            process.end()

    @pytest.mark.parametrize("nice", [1, 25])
    def test_may_not_come_up_further_than_it_serves(
        self, file: int, monkeypatch: pytest.MonkeyPatch, nice: int
    ):
        own = os.getpriority(os.PRIO_PROCESS, os.getpid())
        told: list[tuple[int, int, tuple[int, int]]] = []

        # Few that run tests may raise a limit, so that there were something to lower.
        def prlimit(pid: int, which: int, *limits: tuple[int, int]) -> tuple[int, int]:
            told.extend((pid, which, pair) for pair in limits)
            return 30, resource.RLIM_INFINITY

        monkeypatch.setattr(resource, "prlimit", prlimit)
        process = WorkerProcess(file, nice)
        process.end()
        most = max(20 - own - nice, 0)
        assert told == [(process.pid, resource.RLIMIT_NICE, (most, most))]

    def test_all_its_threads_come_up(self, file: int):
        """A runtime starts its threads while it loads, with the priority of that time."""
        own = os.getpriority(os.PRIO_PROCESS, os.getpid())
        process = WorkerProcess(file, 3, "tests.fakes.threads_process")
        try:
            process.socket.setblocking(True)
            assert process.socket.recv(1) == b"r"
            tasks = [int(path.name) for path in Path(f"/proc/{process.pid}/task").iterdir()]
            assert len(tasks) > 2
            for task in tasks:
                os.setpriority(os.PRIO_PROCESS, task, own + 3)
            process._nice = own + 4
            process.settle()
            assert {os.getpriority(os.PRIO_PROCESS, task) for task in tasks} == {nicer(own + 4)}
        finally:
            process.end()

    def test_one_that_is_gone_needs_no_priority(self, file: int):
        process = WorkerProcess(file)
        process.end(10)
        process.settle()

    def test_gets_two_descriptors_and_no_secrets(self, file: int, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv(SECRET, "hunter2")
        monkeypatch.setenv("LANG", "C.UTF-8")
        read, write = os.pipe()
        os.set_inheritable(read, True)
        process = WorkerProcess(file)
        try:
            wait_until(lambda: is_serving(process.pid))
            folder = Path(f"/proc/{process.pid}")
            environment = dict(
                entry.partition("=")[::2]
                for entry in (folder / "environ").read_text().strip("\0").split("\0")
            )
            held = {int(one.name): str(one.readlink()) for one in (folder / "fd").iterdir()}
            assert SECRET not in environment
            assert set(environment) <= {
                *child._KEPT,
                "PYTHONPATH",
                "ORT_DISABLE_TELEMETRY",
            }
            assert environment["LANG"] == "C.UTF-8"
            assert all(entry.startswith("/") for entry in environment["PYTHONPATH"].split(":"))
            extra = {number: path for number, path in held.items() if number > 2}
            assert len(extra) == 2, extra
            assert "memfd:edged-artefact" in extra.pop(file)
            assert next(iter(extra.values())).startswith("socket:")
            assert (held[0], held[1]) == ("/dev/null", "/dev/null")
            assert (folder / "cwd").readlink() == Path("/")
        finally:
            process.end()
            os.close(read)
            os.close(write)

    def test_ends_in_good_order_when_its_socket_is_closed(self, file: int):
        process = WorkerProcess(file)
        process.socket.close()
        child = process._child
        assert child.wait(20) == 0
        assert process.death() == Death("ended with status 0")
        process.end()

    @pytest.mark.parametrize(
        ("sent", "crash"), [(signal.SIGSEGV, "SIGSEGV"), (signal.SIGKILL, ""), (signal.SIGTERM, "")]
    )
    def test_how_it_died(self, file: int, sent: signal.Signals, crash: str):
        process = WorkerProcess(file)
        if sent != signal.SIGKILL:
            wait_until(lambda: is_serving(process.pid))
        os.kill(process.pid, sent)
        assert process._child.wait(20) == -sent
        assert process.death() == Death(f"died of {sent.name}", crash)
        process.end()

    def test_a_signal_without_a_name(self, file: int):
        process = WorkerProcess(file)
        process.end()
        wait_until(lambda: process._child.poll() is not None)
        process._child.returncode = -40
        assert process.death() == Death("died of signal 40")

    def test_closed_and_not_gone(self, file: int):
        process = WorkerProcess(file)
        os.kill(process.pid, signal.SIGSTOP)
        assert process.death() == Death("closed its connection and was ended")
        process.end()
        wait_until(lambda: process._child.poll() is not None)
        assert process._child.returncode == -signal.SIGKILL

    def test_nothing_stays_behind(self, file: int):
        """Killed as they are, and twice: neither a descriptor nor an entry in the process table."""
        before, had = descriptors(), set(children())
        for _ in range(20):
            process = WorkerProcess(file)
            process.end()
            process.end()
        assert descriptors() <= before
        wait_until(lambda: reap() or not worker_process._dead)
        assert not set(children()) - had

    def test_cannot_be_started(self, file: int, monkeypatch: pytest.MonkeyPatch):
        before = descriptors()
        monkeypatch.setattr(sys, "executable", "/nowhere/python")
        with pytest.raises(LoadError, match="a worker process cannot be started: No such file"):
            WorkerProcess(file)
        assert descriptors() <= before

    def test_no_descriptors_for_its_socket(self, file: int, monkeypatch: pytest.MonkeyPatch):
        def none(*_: object) -> None:
            raise OSError(24, "Too many open files")

        monkeypatch.setattr(worker_process.socket, "socketpair", none)
        with pytest.raises(LoadError, match="Too many open files"):
            WorkerProcess(file)


def test_it_ends_when_its_parent_is_killed():
    """By the kernel: the socket is held open by us, so that its closing cannot be the reason."""
    program = """
        import os, sys, time
        from edged.runtimes.base import Artefact
        from edged.workers.process import WorkerProcess, handed_over

        with handed_over(Artefact("tiny", b"x", (), ())) as (file, _):
            process = WorkerProcess(file)
            os.set_inheritable(process.socket.fileno(), True)
            # A child of ours holds our end too, and outlives us.
            if os.fork() == 0:
                os.read(0, 1)
                os._exit(0)
            print(process.pid, flush=True)
            time.sleep(100)
    """
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert parent.stdin is not None
    assert parent.stdout is not None
    with parent.stdin, parent.stdout:
        pid = int(parent.stdout.readline())
        wait_until(lambda: is_serving(pid))
        parent.kill()
        parent.wait(20)
        wait_until(lambda: is_gone(pid))


def is_gone(pid: int) -> bool:
    """Ended; whoever inherits orphans here may take its time to notice."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class TestHandedOver:
    FILES = Artefact("m", b"model", (), (), {"a.bin": b"", "b.bin": b"weights"})

    def test_says_where_the_files_lie(self):
        with handed_over(self.FILES) as (fd, pieces):
            assert pieces == [Piece("", 0, 5), Piece("a.bin", 5, 0), Piece("b.bin", 5, 7)]
            assert os.pread(fd, 100, 0) == b"modelweights"
            assert not os.get_inheritable(fd)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)

    def test_nobody_can_change_it(self):
        with handed_over(self.FILES) as (fd, _):
            for change in (
                lambda: os.pwrite(fd, b"M", 0),
                lambda: os.ftruncate(fd, 1),
                lambda: os.ftruncate(fd, 1 << 20),
                lambda: fcntl.fcntl(fd, fcntl.F_ADD_SEALS, 0),
            ):
                with pytest.raises(PermissionError):
                    change()

    @pytest.mark.parametrize("call", ["memfd_create", "write"])
    def test_no_memory(self, call: str, monkeypatch: pytest.MonkeyPatch):
        def none(*_: object) -> None:
            raise OSError(28, "No space left on device")

        before = descriptors()
        with monkeypatch.context() as patch:
            patch.setattr(worker_process.os, call, none)
            with pytest.raises(LoadError, match="hand the model to a worker: No space left"):
                handed_over(self.FILES).__enter__()
        assert descriptors() <= before
