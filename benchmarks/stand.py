"""The test stand: a folder, the models, daemons as processes, and what the machine is."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks import models
from edged.client import Client
from edged.errors import EdgedError

ROOT = Path(__file__).resolve().parent.parent
START_S, STOP_S = 60.0, 20.0
ENVIRONMENT = {**os.environ, "ORT_DISABLE_TELEMETRY": "1"}


class BenchError(Exception):
    """A row cannot be measured; says why."""


class Daemon:
    """One ``edged run`` with its own folder.

    Args:
        folder: its own.
        body: of its configuration, besides where it is.
        environment: variables besides those of this process.
        has_http: whether it also serves the Open Inference Protocol, on a socket of its own.
        has_grpc: the same over gRPC.
        has_metrics: whether its figures have a socket too.
        ports: more places on loopback TCP, ``http`` and ``grpc``, instead of sockets.
    """

    def __init__(
        self,
        folder: Path,
        body: str,
        environment: Mapping[str, str] | None = None,
        *,
        has_http: bool = False,
        has_grpc: bool = False,
        has_metrics: bool = False,
        ports: Mapping[str, int] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.socket = folder / "s"
        self.http = folder / "h"
        self.log = folder / "log"
        self.config = folder / "edged.yaml"
        http = f", http: {{path: {self.http}}}" if has_http else ""
        if has_grpc:
            http += f", grpc: {{path: {folder}/g}}"
        for name, port in (ports or {}).items():
            http += f", {name}: {{port: {port}, insecure: true}}"
        metrics = f", metrics: {{path: {folder}/m}}" if has_metrics else ""
        self.config.write_text(
            f"node: bench\nstate_dir: {folder}/state\n"
            f"listen: {{socket: {{path: {self.socket}}}{http}{metrics}}}\n"
            f"trust: {{require_signatures: false}}\n{body}"
        )
        self._environment = {**ENVIRONMENT, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the process that runs."""
        assert self._process is not None
        return self._process.pid

    def start(self, limit_s: float = START_S) -> float:
        """Start it; returns the seconds from exec to its READY=1."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            address = self.folder / "notify"
            address.unlink(missing_ok=True)
            ready.bind(os.fspath(address))
            ready.settimeout(0.5)
            began = time.monotonic()
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "edged", "run", "--config", str(self.config)],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT,
                    env={**self._environment, "NOTIFY_SOCKET": os.fspath(address)},
                )  # fmt: skip
            while time.monotonic() - began < limit_s and self._process.poll() is None:
                with contextlib.suppress(TimeoutError):
                    if ready.recv(4096).startswith(b"READY=1"):
                        return time.monotonic() - began
            self.stop()
            raise BenchError(f"the daemon was not ready in time:\n{self.tail()}")

    def stop(self) -> None:
        """End it."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def client(self) -> Client:
        """A client of its socket."""
        return Client(self.socket)

    def status(self) -> dict[str, Any]:
        """What it says of itself."""
        with self.client() as client:
            return client.status()

    def wait_until_served(self, model: str) -> None:
        """Wait until a model answers; READY may come before a model that failed is tried again."""
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            with contextlib.suppress(EdgedError):
                if any(m["name"] == model and m["ready"] for m in self.status()["models"]):
                    return
            time.sleep(0.05)
        raise BenchError(f'model "{model}" is not served:\n{self.tail()}')

    def wait_until(self, what: Callable[[], bool], limit_s: float = 60.0) -> None:
        """Wait until something holds."""
        until = time.monotonic() + limit_s
        while not what():
            if time.monotonic() > until:
                raise BenchError(f"it did not come about:\n{self.tail()}")
            time.sleep(0.05)

    def wait_until_proven(self) -> None:
        """Wait until the configuration has proved good, and nobody looks at it any more."""
        self.wait_until(lambda: "proved good" in self.log.read_text())

    def tail(self) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-12:])


class Stand:
    """What every row may use; leaving the context ends what still runs.

    Args:
        folder: for everything that is made; removed by nobody here.
        load: the compiled load generator.
        scale: of all durations; 1 is what the published figures are made with.
        is_full: whether rows that are about endurance last as long as their bar says.
    """

    def __init__(
        self, folder: Path, load: Path, scale: float = 1.0, *, is_full: bool = False
    ) -> None:
        self.folder = folder
        self.load = load
        self.scale = scale
        self.is_full = is_full
        self._daemons: list[Daemon] = []
        self._count = 0

    def tiny(self, releases: int = 1) -> models.Model:
        """See models.make_tiny."""
        return models.make_tiny(self._made(), releases)

    def cnn(self) -> models.Model:
        """See models.make_cnn."""
        return models.make_cnn(self._made())

    def cnn_int8(self) -> models.Model:
        """See models.make_cnn_int8."""
        return models.make_cnn_int8(self._made())

    def stack(self, name: str, layers: int) -> models.Model:
        """See models.make_stack."""
        return models.make_stack(self._made(), name, layers)

    def heavy(self, seed: int, width: int) -> tuple[Path, Path]:
        """See models.make_heavy."""
        return models.make_heavy(self._made(), seed, width)

    @contextlib.contextmanager
    def daemon(self, body: str, **places: Any) -> Iterator[Daemon]:
        """A daemon with this configuration, started and ready; for the places see Daemon."""
        with self.prepared(body, **places) as daemon:
            daemon.start()
            yield daemon

    @contextlib.contextmanager
    def prepared(
        self, body: str, environment: Mapping[str, str] | None = None, **places: Any
    ) -> Iterator[Daemon]:
        """A daemon that is not started yet."""
        self._count += 1
        folder = self.folder / f"d{self._count}-{os.getpid()}"
        daemon = Daemon(folder, body, environment, **places)
        try:
            yield daemon
        finally:
            daemon.stop()

    @contextlib.contextmanager
    def child(self, module: str, *arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
        """A module of ours as a process; it has said a first line (that it is ready) by then."""
        with program(sys.executable, "-m", f"benchmarks.{module}", *arguments) as child:
            yield child

    def _made(self) -> Path:
        folder = self.folder / "models"
        folder.mkdir(parents=True, exist_ok=True)
        return folder


@contextlib.contextmanager
def program(*command: str | Path | int) -> Iterator[subprocess.Popen[str]]:
    """A process that has said a first line (that it is ready) by then."""
    child = subprocess.Popen(
        list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        cwd=ROOT, env=ENVIRONMENT,
    )  # fmt: skip
    try:
        assert child.stdout is not None
        if not child.stdout.readline():
            raise BenchError(f"{command} did not start")
        yield child
    finally:
        child.kill()
        child.communicate()  # to its end, and closes what it said


def machine() -> dict[str, Any]:
    """What this machine is and how busy."""
    import onnxruntime  # noqa: PLC0415

    info = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    name = next(
        (line.split(":", 1)[1].strip() for line in info if line.startswith("model name")), ""
    )
    return {
        "cpu": name,
        "cores": len(os.sched_getaffinity(0)),
        "kernel": os.uname().release,
        "python": sys.version.split()[0],
        "onnxruntime": onnxruntime.__version__,
        "load_average": load_average(),
    }


def load_average() -> float:
    """Of the last minute; 2.0 on two cores is a machine that has no time left."""
    return os.getloadavg()[0]
