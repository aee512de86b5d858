"""MQTT: a binding of edged against a bare paho echo, behind the same broker and the same client."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import figures
from benchmarks.mqtt_client import requests_per_s
from benchmarks.native import config, cpu_seconds
from benchmarks.results import Row, measured, not_measured
from benchmarks.stand import BenchError, Daemon, Stand, load_average

ROUNDS = 5
ROUND_S = 2.5
UNIT = "x"
PAYLOAD = (
    b'{"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, '
    b'"petal_width": 0.2, "id": "dev-0123"}'
)
"""A hundred bytes, as a small device sends them."""


def qos1(stand: Stand) -> list[Row]:
    """Messages a second with 32 in flight, published and answered at QoS 1, over paho."""
    return _qos1(stand, "paho", "mqtt-qos1", ">= 0.6")


def native(stand: Stand) -> list[Row]:
    """The same over our own client."""
    return _qos1(stand, "native", "mqtt-native", ">= 1.5")


def _qos1(stand: Stand, client: str, name: str, bar: str) -> list[Row]:
    program = program_of()
    if program is None:
        return [not_measured(name, UNIT, bar, "mosquitto is not installed")]
    model = stand.tiny()
    with mosquitto(program, stand.folder) as port:
        body = config(model) + (
            f"mqtt: {{host: 127.0.0.1, port: {port}, client: {client}}}\n"
            "bindings: [{name: b, from: 'in/edged', to: 'out/edged', model: tiny}]\n"
        )
        with stand.daemon(body) as daemon, stand.child("mqtt_echo", str(port)) as echo:
            wait_for_broker(daemon)
            ours: list[float] = []
            echoes: list[float] = []
            cpu: dict[str, list[float]] = {"edged": [], "echo": []}
            for _ in range(ROUNDS):
                for side, pid, rates in (("echo", echo.pid, echoes), ("edged", daemon.pid, ours)):
                    before, began = cpu_seconds(pid), time.monotonic()
                    rates.append(requests_per_s(port, side, PAYLOAD, ROUND_S * stand.scale))
                    used = (cpu_seconds(pid) - before) / (time.monotonic() - began)
                    cpu[side].append(used / rates[-1] * 1e6)
    details = {
        "edged_per_s": ours, "echo_per_s": echoes, "cpu_us_per_message": cpu,
        "load_average": load_average(),
    }  # fmt: skip
    return [measured(name, figures.paired_ratio(ours, echoes), UNIT, bar, details)]


def program_of() -> str | None:
    """Where mosquitto is; Debian keeps it out of people's PATH."""
    return shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def wait_for_broker(daemon: Daemon) -> None:
    """Until its bindings are served."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        mqtt = daemon.status()["mqtt"]
        if mqtt and mqtt["problem"] is None and mqtt["state"] == "connected":
            return
        time.sleep(0.05)
    raise BenchError("the daemon did not reach the broker")


@contextlib.contextmanager
def mosquitto(program: str, folder: Path) -> Iterator[int]:
    """A broker on a free port; yields the port."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    conf = folder / "mosquitto.conf"
    root = "user root\n" if os.geteuid() == 0 else ""
    conf.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n"
        f"set_tcp_nodelay true\nmax_queued_messages 100000\n{root}"
    )
    with (folder / "mosquitto.log").open("ab") as log:
        process = subprocess.Popen(
            [program, "-c", str(conf)], stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
    try:
        until = time.monotonic() + 10
        while time.monotonic() < until:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                yield port
                return
            time.sleep(0.02)
        raise BenchError("mosquitto did not start")
    finally:
        process.terminate()
        process.wait(10)
