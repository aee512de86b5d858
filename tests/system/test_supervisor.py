"""What the service manager is told, on a real socket; and the sockets it passes."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.system.supervisor import Supervisor, passed_sockets


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Stands for systemd: the socket that NOTIFY_SOCKET names."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
            monkeypatch.delenv(name, raising=False)
        yield sock


def test_what_is_said(manager: socket.socket):
    supervisor = Supervisor.from_environment()
    supervisor.ready("3 models, 1 not ready")
    assert manager.recv(500) == b"READY=1\nSTATUS=3 models, 1 not ready"
    supervisor.alive()
    assert manager.recv(500) == b"WATCHDOG=1"
    supervisor.status("läuft")
    assert manager.recv(500) == "STATUS=läuft".encode()
    supervisor.stopping()
    assert manager.recv(500) == b"STOPPING=1"


def test_reloading_carries_the_monotonic_time(manager: socket.socket):
    before = time.monotonic_ns() // 1000
    Supervisor.from_environment().reloading()
    match = re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=([0-9]+)", manager.recv(500))
    assert before <= int(match[1]) <= time.monotonic_ns() // 1000


def test_abstract_socket():
    name = f"edged-test-{os.getpid()}-{time.monotonic_ns()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name)
        sock.settimeout(10)
        Supervisor("@" + name, 0).alive()
        assert sock.recv(100) == b"WATCHDOG=1"


def test_children_do_not_inherit_it(manager: socket.socket, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WATCHDOG_USEC", "10000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert Supervisor.from_environment().watchdog_ns == 10_000_000_000
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & set(os.environ)


@pytest.mark.parametrize(
    ("usec", "pid", "expected"),
    [
        ("", "", 0),
        ("5", "", 5000),
        ("5", "1", 0),
        ("soon", "", 0),
        ("-5", "", 0),
        ("²", "", 0),
    ],
)
def test_watchdog(monkeypatch: pytest.MonkeyPatch, usec: str, pid: str, expected: int):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    monkeypatch.setenv("WATCHDOG_PID", pid)
    assert Supervisor.from_environment().watchdog_ns == expected


def test_without_a_manager_nothing_happens(caplog: pytest.LogCaptureFixture):
    supervisor = Supervisor("", 0)
    supervisor.ready("alone")
    supervisor.stopping()
    assert not [one for one in caplog.records if one.name.startswith("edged")]


def test_a_manager_that_is_gone_is_a_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    Supervisor(str(tmp_path / "none"), 0).alive()
    assert "the service manager could not be told" in caplog.text


@pytest.mark.parametrize("pid", ["", "1"])
def test_no_sockets_are_ours(monkeypatch: pytest.MonkeyPatch, pid: str):
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_PID", pid)
    monkeypatch.setenv("LISTEN_FDNAMES", "edged.socket")
    assert passed_sockets() == []
    assert not {"LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"} & set(os.environ)


CHILD = """
import os, sys
from edged.errors import ConfigError
from edged.system.supervisor import passed_sockets
if {fd} >= 0:
    os.dup2({fd}, 3, inheritable=True)
os.environ["LISTEN_FDS"], os.environ["LISTEN_PID"] = {count!r}, str(os.getpid())
try:
    for sock in passed_sockets():
        print("got", sock.getsockname(), sock.get_inheritable())
        sock.close()
except ConfigError as exc:
    print("refused", exc.message)
"""


def child(fd: int, count: str = "1") -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", CHILD.format(fd=fd, count=count)],
        pass_fds=[fd] if fd >= 0 else [],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert not done.stderr, done.stderr
    return done.stdout.strip()


class TestPassed:
    """In a child: descriptor 3 belongs to the test runner here."""

    def test_a_listening_socket(self, tmp_path: Path):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.bind(str(tmp_path / "s"))
            sock.listen()
            assert child(sock.fileno()) == f"got {tmp_path}/s False"
            assert child(sock.fileno(), "0") == ""

    def test_one_that_does_not_listen(self, tmp_path: Path):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.bind(str(tmp_path / "s"))
            said = child(sock.fileno())
        assert said == (
            "refused descriptor 3 from the service manager: expected a listening Unix stream "
            "socket (ListenStream=/run/edged/edged.sock)"
        )

    def test_wrong_types(self, tmp_path: Path):
        with (
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagram,
            Path(os.devnull).open() as file,
        ):
            tcp.bind(("127.0.0.1", 0))
            tcp.listen()
            for fd in (tcp.fileno(), datagram.fileno(), file.fileno()):
                said = child(fd)
                assert said.startswith("refused descriptor 3 from the service manager: ")
                assert "expected a listening Unix stream socket" in said

    def test_wrong_counts(self):
        for count in ("17", "many", "-1", "²"):
            said = child(-1, count)
            assert said == f"refused LISTEN_FDS={count}: expected a number of sockets, at most 16"

    def test_descriptor_that_is_not_there(self):
        assert "refused descriptor 3 from the service manager" in child(-1)
