"""MQTT: bindings of edged against a bare paho echo, behind the same broker and the same asker."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import figures
from benchmarks.frame import make_frame, pictures
from benchmarks.mqtt_client import ask
from benchmarks.native import config, cpu_seconds
from benchmarks.results import Row, measured, not_measured
from benchmarks.stand import BenchError, Daemon, Stand, load_average, program

ROUNDS = 5
ROUND_S = 2.0
UNIT = "x"
PAYLOAD = (
    b'{"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, '
    b'"petal_width": 0.2, "id": "dev-0123"}'
)
"""A hundred bytes, as a small device sends them."""
PIXELS, PICTURE = (1, 183, 182, 3), (1, 360, 480, 3)
"""100 kB as they are, and such a picture that its JPEG takes about as many."""
PAHO, NATIVE, FLOOR = "mqtt-qos1", "mqtt-native", "mqtt-native-floor"
ROWS = {
    PAHO: ">= 0.6",
    NATIVE: ">= 1.5",
    FLOOR: "",
    "mqtt-qos0": ">= 2.5",
    "mqtt-one-p50": "<= 1.3",
    "mqtt-one-p99": "<= 1.3",
    "mqtt-raw": ">= 0.8",
    "mqtt-jpeg": "",
}
Found = dict[str, list[dict[str, float]]]


def binding(stand: Stand) -> list[Row]:
    """All rows: each round asks the echo and the daemons one right after the other."""
    broker = program_of()
    if broker is None:
        return [_none(name, "mosquitto is not installed") for name in ROWS]
    payload = stand.folder / "payload"
    payload.write_bytes(PAYLOAD)
    model = stand.tiny()
    pids: list[int] = []
    with mosquitto(broker, stand.folder, pids) as port, contextlib.ExitStack() as stack:
        echo = stack.enter_context(stand.child("mqtt_echo", str(port)))
        floor = stack.enter_context(
            program(stand.load.with_name("mqtt_echo_floor"), port, "in/floor1", "out/floor1")
        )
        daemons = {
            client: stack.enter_context(stand.daemon(config(model) + _bindings(port, client)))
            for client in ("paho", "native")
        }
        for daemon in daemons.values():
            wait_for_broker(daemon)
        found: Found = {}
        for _ in range(ROUNDS):
            for qos, in_flight in ((1, 32), (0, 32), (1, 1)):
                for side, pid in (
                    ("echo", echo.pid), *((name, one.pid) for name, one in daemons.items()),
                    ("floor", floor.pid),
                ):  # fmt: skip
                    if side in {"paho", "floor"} and (qos, in_flight) != (1, 32):
                        continue
                    found.setdefault(f"{side} qos{qos} {in_flight}", []).append(
                        measure(stand, port, f"{side}{qos}", payload, pid, qos, in_flight, pids)
                    )
    raw = {"load_average": load_average(), **found}

    def row(name: str, side: str, of: str, what: str = "per_s") -> Row:
        ours, bare = ([one[what] for one in found[f"{key} {of}"]] for key in (side, "echo"))
        return measured(name, figures.paired_ratio(ours, bare), UNIT, ROWS[name], raw)

    return [
        row(PAHO, "paho", "qos1 32"),
        row(NATIVE, "native", "qos1 32"),
        row(FLOOR, "floor", "qos1 32"),
        row("mqtt-qos0", "native", "qos0 32"),
        row("mqtt-one-p50", "native", "qos1 1", "p50_us"),
        row("mqtt-one-p99", "native", "qos1 1", "p99_us"),
        *_frames(stand, broker),
    ]


def _frames(stand: Stand, broker: str) -> list[Row]:
    """Pictures of 100 kB, 8 on their way: pixels as they are, and a JPEG beside."""
    raw_payload, jpeg_payload = stand.folder / "pixels", stand.folder / "jpeg"
    raw_payload.write_bytes(pictures(PIXELS)[0].tobytes())
    jpeg_payload.write_bytes(_jpeg())
    bundles = {
        "pixels": make_frame(stand.folder / "pixels-1.edgb", PIXELS, "pixels"),
        "picture": make_frame(stand.folder / "picture-1.edgb", PICTURE, "picture"),
    }
    models = ", ".join(f"{name}: {{bundle: {bundle}}}" for name, bundle in bundles.items())
    found: Found = {}
    with mosquitto(broker, stand.folder) as port, stand.child("mqtt_echo", str(port)) as echo:
        body = (
            f"runtime: {{threads: 1}}\nmodels: {{{models}}}\n"
            f"mqtt: {{host: 127.0.0.1, port: {port}, client: native}}\nbindings:\n"
            "  - {name: raw, from: in/raw, to: out/raw, model: pixels, codec: raw}\n"
            "  - {name: jpeg, from: in/jpeg, to: out/jpeg, model: picture, codec: image}\n"
        )
        with stand.daemon(body) as daemon:
            for name in bundles:
                daemon.wait_until_served(name)
            wait_for_broker(daemon)
            for _ in range(ROUNDS):
                for side, payload, pid in (
                    ("echo1", raw_payload, echo.pid), ("raw", raw_payload, daemon.pid),
                    ("jpeg", jpeg_payload, daemon.pid),
                ):  # fmt: skip
                    found.setdefault(side, []).append(
                        measure(stand, port, side, payload, pid, 1, 8)
                    )
    raw = {"load_average": load_average(), "jpeg_bytes": jpeg_payload.stat().st_size, **found}
    rates = {side: [one["per_s"] for one in rounds] for side, rounds in found.items()}
    return [
        measured(f"mqtt-{side}", figures.paired_ratio(rates[side], rates["echo1"]), UNIT,
                 ROWS[f"mqtt-{side}"], raw)
        for side in ("raw", "jpeg")
    ]  # fmt: skip


def measure(  # noqa: PLR0917 - one cell of a table
    stand: Stand,
    port: int,
    name: str,
    payload: Path,
    pid: int,
    qos: int,
    in_flight: int,
    brokers: Sequence[int] = (),
) -> dict[str, float]:
    """One round, with the processor's time of who answers, of the broker and of who asks."""

    def clocks() -> tuple[float, float, float]:
        own = resource.getrusage(resource.RUSAGE_CHILDREN)  # of those that ended: the generator
        broker = sum(map(cpu_seconds, brokers))
        return cpu_seconds(pid), broker, own.ru_utime + own.ru_stime

    before = clocks()
    seconds = ROUND_S * stand.scale
    found = ask(stand, (port, port), name, payload, qos=qos, in_flight=in_flight, seconds=seconds)
    # A fifth more than is counted was asked before the clock started.
    used = [(now - then) / 1.2e-6 for now, then in zip(clocks(), before, strict=True)]
    names = ("cpu_us", "broker_cpu_us", "asker_cpu_us")[: 3 if brokers else 1]
    return {key: found[key] for key in ("per_s", "p50_us", "p99_us")} | {
        key: value / found["answered"] for key, value in zip(names, used, strict=False)
    }


def _bindings(port: int, client: str) -> str:
    names = ", ".join(
        f"{{name: b{qos}, from: in/{client}{qos}, to: out/{client}{qos}, qos: {qos}, model: tiny}}"
        for qos in (0, 1)
    )
    # Two daemons at one broker: each has a name of its own there.
    mqtt = f"host: 127.0.0.1, port: {port}, client: {client}, client_id: bench-{client}"
    return f"mqtt: {{{mqtt}, base: bench/{client}}}\nbindings: [{names}]\n"


def _jpeg() -> bytes:
    import io  # noqa: PLC0415 - only where it is made

    from PIL import Image  # noqa: PLC0415

    file = io.BytesIO()
    Image.fromarray(pictures(PICTURE)[0][0]).save(file, "JPEG", quality=80)
    return file.getvalue()


def _none(name: str, why: str) -> Row:
    return not_measured(name, UNIT, ROWS[name], why)


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
def mosquitto(program: str, folder: Path, pids: list[int] | None = None) -> Iterator[int]:
    """A broker on a free port; yields the port, and puts its process down among ``pids``."""
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
    if pids is not None:
        pids.append(process.pid)
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
