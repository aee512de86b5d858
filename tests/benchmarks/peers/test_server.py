"""A peer as a process: waited for, made to rest, and ended with all that it started."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers import asking, catalogue, measure
from benchmarks.peers.server import Server, exchange, free_ports
from benchmarks.stand import BenchError

VALUES = np.array([[0.25, 0.75]], np.float32)
REQUEST = asking.request(asking.OIP_JSON, np.ones((1, 4), np.float32))
PROGRAM = """
import os, socket, subprocess, sys, threading
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
open("child", "w").write(str(child.pid))
def serve(peer):
    with peer:
        while data := peer.recv(1 << 16):
            body = sys.argv[2].encode()
            peer.sendall(b"HTTP/1.1 200 OK\\r\\ncontent-length: %d\\r\\n\\r\\n" % len(body) + body)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator:
    servers = []

    def begin(answer: str, program: str = PROGRAM) -> tuple[Server, int]:
        (port,) = free_ports(1)
        command = [sys.executable, "-c", program, str(port), answer]
        servers.append(Server("peer", command, tmp_path, {}))
        return servers[-1], port

    yield begin
    for server in servers:
        server.end()


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "gone"


def wait_for(pid: int, *states: str) -> None:
    until = time.monotonic() + 30
    while state(pid) not in states:
        assert time.monotonic() < until, f"{pid} is {state(pid)}, not one of {states}"
        time.sleep(0.01)


def test_ready_with_the_first_right_answer(start, tmp_path: Path):
    server, port = start('{"data": [0.25, 0.75]}')
    ready_s, wanted = server.wait(port, REQUEST, VALUES)
    assert ready_s > 0
    assert wanted == b"[0.25, 0.75]"
    assert server.memory_mb() > 5
    assert server.processes() == 2
    child = int((tmp_path / "child").read_text())
    server.rest()
    wait_for(child, "T")
    server.wake()
    wait_for(child, "S", "R")
    assert exchange(port, REQUEST) == (200, b'{"data": [0.25, 0.75]}')
    server.rest()
    server.end()
    wait_for(child, "gone", "Z")
    with pytest.raises(OSError, match="refused"):
        exchange(port, REQUEST)


def test_a_wrong_answer_is_never_ready(start, monkeypatch: pytest.MonkeyPatch):
    server, port = start('{"data": [0.3, 0.7]}')
    server.wait_for_port(port)
    monkeypatch.setattr("benchmarks.peers.server.READY_S", 0)
    with pytest.raises(BenchError, match=r"peer does not serve: expected \[0.25, 0.75\]"):
        server.wait(port, REQUEST, VALUES)


def test_one_that_ends_says_why(start):
    server, port = start("", "raise SystemExit('no libpeer.so here')")
    with pytest.raises(BenchError, match=r"ended with 1\n(.|\n)*no libpeer.so here"):
        server.wait(port, REQUEST, VALUES)


def test_ports_are_different_and_of_this_machine():
    ports = free_ports(8)
    assert len(set(ports)) == 8
    assert all(1023 < port < 65536 for port in ports)


def test_a_peer_that_does_not_install_keeps_nobody_from_the_rest(
    monkeypatch: pytest.MonkeyPatch,
):
    def refuse(_: object) -> None:
        raise BenchError("mlserver is not installed: ERROR: no such release")

    monkeypatch.setattr("benchmarks.peers.environment.Environment.make", refuse)
    (peer,) = (one for one in catalogue.PEERS if one.name == "mlserver")
    side = measure.begin(peer, None, "1.32.0")  # type: ignore[arg-type]
    assert side.server is None
    assert not side.ways
    assert set(side.problems) == {"http", "grpc"}
    assert "no such release" in side.problems["http"]
