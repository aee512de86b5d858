"""The daemon and its service manager: what it is told, when, and how the process ends."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edged.client import Client
from edged.config.load import load
from edged.daemon import Daemon
from edged.errors import InvalidRequestError, ModelNotFoundError, ModelNotReadyError
from edged.system.supervisor import Supervisor
from tests.bundles import make_bundle
from tests.e2e.models import lying, slow
from tests.e2e.process import DaemonProcess, running, wait_for
from tests.models import double

X = np.ones((1, 4), np.float32)
BODY = (
    "trust: {require_signatures: false}\nreload: {settle: 20ms}\nmodels:\n  m: {bundle: m-1.edgb}\n"
)

EXEC = """
import os, sys
os.dup2({fd}, 3, inheritable=True)
os.environ["LISTEN_PID"], os.environ["LISTEN_FDS"] = str(os.getpid()), "1"
os.execv(sys.executable, [sys.executable, "-m", "edged", *sys.argv[1:]])
"""


@pytest.fixture
def box(tmp_path: Path) -> Path:
    make_bundle(tmp_path / "m-1.edgb", double(), name="m", release=1)
    return tmp_path


class Manager:
    """Stands for systemd: the socket that NOTIFY_SOCKET names."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(20)
        self.seen: list[str] = []

    def next(self, *words: str) -> str:
        """The next message that starts with one of these; others are kept in ``seen``."""
        while True:
            message = self.socket.recv(8192).decode()
            self.seen.append(message)
            if message.startswith(words):
                return message


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path / "notify")
    yield made
    made.socket.close()


class TestNotify:
    def test_ready_reloading_stopping(self, box: Path, manager: Manager) -> None:
        body = BODY.replace("settle: 20ms", "watch: false")
        with running(box, body, NOTIFY_SOCKET=str(manager.path)) as daemon:
            first = manager.next("READY=1")
            assert "STATUS=1 of 1 models ready, generation 1" in first
            before = time.monotonic_ns() // 1000
            daemon.write(body.replace("m-1.edgb}", "m-1.edgb, aliases: {a: 1}}"))
            assert daemon.process is not None
            daemon.process.send_signal(signal.SIGHUP)
            while "generation 2" not in manager.next("READY=1"):
                pass
            said = [one for one in manager.seen if one.startswith("RELOADING=1\n")][-1]
            stamp = int(said.partition("MONOTONIC_USEC=")[2])
            assert before <= stamp <= time.monotonic_ns() // 1000
            daemon.write("models: [\n")
            daemon.process.send_signal(signal.SIGHUP)
            # A refused reload ends too, or systemd would wait for it and give up on us.
            while "degraded: config" not in manager.next("READY=1"):
                pass
            assert daemon.stop() == 0
            assert manager.next("STOPPING=1")
            assert not [one for one in manager.seen if one.startswith("WATCHDOG")]

    def test_watchdog(self, box: Path, manager: Manager) -> None:
        env = {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "300000"}
        with running(box, BODY, **env):
            manager.next("WATCHDOG=1")
            started = time.monotonic()
            for _ in range(5):
                manager.next("WATCHDOG=1")
            each_s = (time.monotonic() - started) / 5
            assert 0.05 < each_s < 0.3, "a third of WATCHDOG_USEC"

    def test_a_blocked_loop_feeds_nothing(
        self, box: Path, manager: Manager, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("STATE_DIRECTORY", raising=False)
        daemon = inside(box, Supervisor(str(manager.path), 30_000_000))

        async def work() -> None:
            daemon._feed_watchdog()
            await asyncio.sleep(0.05)
            manager.socket.setblocking(False)
            while pending(manager):
                pass
            time.sleep(0.1)  # noqa: ASYNC251 - to block the loop is the point
            assert not pending(manager)
            await asyncio.sleep(0.02)
            assert pending(manager)

        asyncio.run(work())

    def test_without_a_watchdog_nothing_is_armed(self, box: Path) -> None:
        daemon = inside(box, Supervisor("", 0))
        daemon._feed_watchdog()  # needs no loop, because it does nothing


def pending(manager: Manager) -> bool:
    try:
        return bool(manager.socket.recv(8192))
    except BlockingIOError:
        return False


def inside(box: Path, supervisor: Supervisor) -> Daemon:
    """A daemon in this process; nothing of it runs."""
    process = DaemonProcess(box)
    process.write(BODY)

    async def make() -> Daemon:
        return Daemon(process.config, load(process.config), box / "state", supervisor)

    return asyncio.run(make())


class TestSignals:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_ends_with_0(self, box: Path, number: signal.Signals) -> None:
        daemon = DaemonProcess(box)
        daemon.write(BODY)
        daemon.start()
        assert daemon.process is not None
        daemon.process.send_signal(number)
        assert daemon.process.wait(20) == 0
        assert not daemon.socket.exists()
        assert "Traceback" not in daemon.log.read_text()
        assert "stopped" in daemon.tail(1)

    def test_a_second_sigterm_does_no_harm(self, box: Path) -> None:
        make_bundle(box / "m-1.edgb", slow(), name="m", release=1)
        with running(box, BODY) as daemon:
            assert daemon.process is not None
            with daemon.client(timeout=30) as client:
                # Some tenths of a second of work: well within the time to drain, on a busy machine too.
                answers = [client.submit("m", x=X) for _ in range(3)]
                client.status()
                for _ in range(3):
                    daemon.process.send_signal(signal.SIGTERM)
                assert all(one.result()["y"].shape == (1, 4) for one in answers)
            assert daemon.process.wait(20) == 0

    def test_sighup_during_the_boot(self, box: Path) -> None:
        """Python is still importing: the default action would end the process."""
        daemon = DaemonProcess(box)
        daemon.write(BODY)
        daemon.start(wait=False)
        assert daemon.process is not None
        wait_for((box / "state").exists)
        daemon.process.send_signal(signal.SIGHUP)
        wait_for(daemon.is_up)
        assert daemon.stop() == 0

    def test_a_stop_while_files_change(self, box: Path) -> None:
        daemon = DaemonProcess(box)
        daemon.write(BODY)
        daemon.start()
        make_bundle(box / "m-1.edgb", slow(), name="m", release=2)
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGHUP)
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.wait(20) == 0
        assert "Traceback" not in daemon.log.read_text()


class TestSocket:
    def test_one_that_was_passed(self, box: Path) -> None:
        """The socket is the service manager's: it is there before us and stays after us."""
        daemon = DaemonProcess(box)
        daemon.write(BODY)
        with socket.socket(socket.AF_UNIX) as listener, daemon.log.open("ab") as log:
            listener.bind(str(daemon.socket))
            listener.listen()
            code = EXEC.format(fd=listener.fileno())
            daemon.process = subprocess.Popen(
                [sys.executable, "-c", code, "run", "--config", str(daemon.config)],
                pass_fds=[listener.fileno()],
                stdout=log,
                stderr=log,
            )
            # Connects before the daemon is up, and is answered.
            with daemon.client(timeout=30) as client:
                assert client.infer("m", x=X)["y"].tolist() == [[2.0] * 4]
            assert daemon.stop() == 0
            assert daemon.socket.exists()

    def test_one_that_another_uses(self, box: Path, tmp_path: Path) -> None:
        with running(box, BODY) as daemon:
            other = tmp_path / "other.yaml"
            other.write_text(daemon.config.read_text())
            second = subprocess.run(
                [
                    *(sys.executable, "-m", "edged", "run", "--config", str(other)),
                    *("--state-dir", str(tmp_path / "elsewhere")),
                ],
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
            assert second.returncode == 78
            assert str(daemon.socket) in second.stderr
            assert "Traceback" not in second.stderr
            assert daemon.status()["ready"]


class TestSettings:
    def test_log_level_and_node_change_while_it_runs(self, box: Path) -> None:
        with running(box, BODY) as daemon:
            daemon.config.write_text(
                daemon.config.read_text().replace("node: test", "node: other")
                + "log: {level: error}\n"
            )
            wait_for(lambda: daemon.status()["node"] == "other")

            def is_quiet() -> bool:
                size = daemon.log.stat().st_size
                with Client(daemon.socket) as client:
                    client.status()
                return daemon.log.stat().st_size == size

            wait_for(is_quiet)  # connections are logged as info
            assert daemon.status()["degradations"] == {}

    def test_a_state_directory_that_cannot_be_made(self, box: Path) -> None:
        (box / "state").write_text("a file")
        daemon = DaemonProcess(box)
        daemon.write(BODY)
        daemon.start(wait=False)
        assert daemon.process is not None
        assert daemon.process.wait(20) != 0
        assert f"the state directory {box}/state cannot be used" in daemon.tail()
        assert "Traceback" not in daemon.tail()


def test_the_manifest_call_says_why_not(box: Path) -> None:
    make_bundle(box / "bad.edgb", lying(double()), name="bad")
    body = BODY + "  bad: {bundle: bad.edgb, required: false}\n"
    with running(box, body) as daemon, daemon.client() as client:
        assert '"name":"m"' in client.call("manifest", model="m", release=1)
        errors: dict[type[Exception], dict[str, Any]] = {
            ModelNotFoundError: {"model": "none"},
            ModelNotReadyError: {"model": "bad"},
            InvalidRequestError: {"model": "m", "release": [1]},
        }
        for error, arguments in errors.items():
            with pytest.raises(error):
                client.call("manifest", **arguments)
        with pytest.raises(ModelNotFoundError):
            client.call("manifest")


def test_it_holds_no_descriptor_of_ours(box: Path) -> None:
    """What a child of the daemon would inherit."""
    with running(box, BODY) as daemon:
        assert daemon.process is not None
        seen = 0
        for entry in Path(f"/proc/{daemon.process.pid}/fdinfo").iterdir():
            try:
                text = entry.read_text()
            except FileNotFoundError:
                continue  # the daemon closed it since the folder was listed
            seen += 1
            flags = int(text.split("flags:")[1].split()[0], 8)
            assert int(entry.name) < 3 or flags & os.O_CLOEXEC, entry.name
        assert seen > 3
