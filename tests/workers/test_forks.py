"""The child that trials are forked from: what it answers over its door."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator

import psutil
import pytest

from edged.runtimes.base import Artefact
from edged.workers import forks as worker_forks
from edged.workers.process import WorkerProcess, handed_over, socket_pair
from tests.fakes.worker import wait_until

TINY = Artefact("tiny", b"the model", (), ())


class Door:
    """The parent's side."""

    def __init__(self, file: int) -> None:
        self.file = file
        self.process = WorkerProcess(
            file, 3, "edged.workers.forks", socket.SOCK_SEQPACKET, {"OPENBLAS_NUM_THREADS": "1"}
        )
        self.process.socket.settimeout(60)

    def ask(self, words: str, *files: int) -> str:
        socket.send_fds(self.process.socket, [words.encode()], files)
        return self.process.socket.recv(256).decode()

    def fork(self) -> tuple[int, socket.socket]:
        ours, theirs = socket_pair()
        with theirs:
            return int(self.ask("fork", theirs.fileno(), self.file)), ours


@pytest.fixture
def door() -> Iterator[Door]:
    with handed_over(TINY) as (file, _):
        made = Door(file)
        yield made
        made.process.end(10)


def test_a_copy_is_a_child_of_it_with_its_priority_and_one_thread(door: Door):
    assert door.ask("import onnxruntime") == "ready"
    number, sock = door.fork()
    with sock:
        copy = psutil.Process(number)
        assert copy.ppid() == door.process.pid
        assert copy.nice() == psutil.Process(door.process.pid).nice()
        assert copy.num_threads() == 1


def test_how_a_copy_ended_is_told_once(door: Door):
    number, sock = door.fork()
    with sock:
        assert door.ask(f"wait {number} 0") == "running"
        os.kill(number, signal.SIGSEGV)
        assert door.ask(f"wait {number} 60000") == str(-signal.SIGSEGV)
        assert door.ask(f"wait {number} 60000") == "gone"


def test_a_copy_whose_socket_is_closed_ends_by_itself(door: Door):
    number, sock = door.fork()
    sock.close()
    assert door.ask(f"wait {number} 60000") == "0"


def test_kills_its_copies_and_nobody_else(door: Door):
    number, sock = door.fork()
    with sock:
        assert door.ask(f"kill {os.getpid()}") == "done"
        assert door.ask(f"kill {number}") == "done"
        assert door.ask(f"wait {number} 60000") == str(-signal.SIGKILL)
        assert door.ask(f"kill {number}") == "done"


def test_holds_nothing_of_its_copies(door: Door):
    door.ask("import onnxruntime")
    before = psutil.Process(door.process.pid).num_fds()
    for _ in range(5):
        number, sock = door.fork()
        sock.close()
        assert door.ask(f"wait {number} 60000") == "0"
    assert psutil.Process(door.process.pid).num_fds() == before
    assert psutil.Process(door.process.pid).children() == []


def test_ends_with_its_door_and_its_copies_with_it(door: Door):
    number, sock = door.fork()
    with sock:
        door.process.socket.shutdown(socket.SHUT_RDWR)
        wait_until(lambda: not psutil.pid_exists(number))


def test_a_process_with_threads_is_not_copied():
    gate = threading.Event()
    thread = threading.Thread(target=gate.wait)
    thread.start()
    try:
        assert "threads" in worker_forks.prepare("onnxruntime")
    finally:
        gate.set()
        thread.join()


def test_a_runtime_that_is_not_there_is_for_the_load_to_complain_of(door: Door):
    assert door.ask("import nobody") == "ready"
