"""The native protocol on ``tiny``: one connection, sixteen, and what batching gives."""

from __future__ import annotations

import contextlib
import functools
import itertools
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import figures, raw
from benchmarks.models import Model
from benchmarks.results import Row, measured
from benchmarks.stand import Daemon, Stand, load_average
from benchmarks.wire import Script, run_load, write_script
from edged.client import Client

ROUNDS = 7
ROUND_S = 0.7


DEADLINE_S = 1.0
ACCESS = """access:
  rules: [{users: ["*"], allow: [infer, metadata, status]}]
  quotas: [{users: ["*"], connections: 1000, in_flight: 128MiB, requests_per_second: 1000000}]
"""


def config(model: Model, batching: str = "", release: int = 1) -> str:
    """A configuration that serves one model on the event loop."""
    bundle = model.bundles[release]
    return f"runtime: {{threads: 1}}\nmodels: {{{model.name}: {{bundle: {bundle}{batching}}}}}\n"


def one_connection(stand: Stand) -> list[Row]:
    """p50 of the Python client against an echo of the same bytes and the run itself.

    Figures are kept and served, rules and quotas are held, and every request has a deadline: what
    an operator has on is on.
    """
    model = stand.tiny()
    session = raw.open_session(model.onnx, 1)
    inputs = model.request(0)
    with (
        stand.daemon(config(model) + ACCESS, has_metrics=True) as daemon,
        daemon.client() as client,
    ):
        call = functools.partial(prepare(client, model), timeout=DEADLINE_S)
        check(call, session, model)
        sizes = frame_sizes(daemon, model)
        path = daemon.folder / "echo"
        with stand.child("floor", "echo", path, *map(str, sizes)), _peer(path) as peer:
            ours, echoes, runs = [], [], []
            for _ in range(ROUNDS):
                echoes.append(_p50_us(_echo(peer, *sizes), ROUND_S * stand.scale))
                runs.append(raw.p50_us(session, inputs, ROUND_S * stand.scale / 2))
                ours.append(_p50_us(lambda: call(inputs), ROUND_S * stand.scale))
    floor = [a + b for a, b in zip(echoes, runs, strict=True)]
    value = figures.paired_ratio(ours, floor)
    details = {
        "edged_p50_us": ours, "echo_p50_us": echoes, "run_p50_us": runs, "bytes": sizes,
        "aim": 1.6, "load_average": load_average(),
    }  # fmt: skip
    return [measured("native-1", value, "x", "<= 2.0", details)]


def sixteen_connections(stand: Stand) -> list[Row]:
    """The C generator: throughput against raw calls, and batching on against off."""
    model = stand.tiny()
    session = raw.open_session(model.onnx, 1)
    inputs = model.request(0)
    with (
        stand.daemon(config(model)) as with_batches,
        stand.daemon(config(model, ", batching: {max_batch: 1}")) as without,
    ):
        script = script_for(with_batches, model)
        runs: list[float] = []
        rates: dict[str, list[float]] = {"on-16": [], "off-16": [], "on-1": [], "off-1": []}
        cpu = []
        for _ in range(ROUNDS):
            runs.append(raw.calls_per_s(session, inputs, ROUND_S * stand.scale))
            for (name, daemon), count in itertools.product(
                (("on", with_batches), ("off", without)), (16, 1)
            ):
                before = cpu_seconds(daemon.pid)
                report = run_load(stand, daemon.socket, script, seconds=ROUND_S, connections=count)
                rates[f"{name}-{count}"].append(report["per_s"])
                if (name, count) == ("on", 16):
                    used = cpu_seconds(daemon.pid) - before
                    cpu.append(used / report["with_warmup"] * 1e6)
    load = {"load_average": load_average()}
    sixteen = {"requests_per_s": rates["on-16"], "raw_calls_per_s": runs, "aim": 0.8}
    cost = {"daemon_cpu_us_per_request": cpu}
    ratio = figures.paired_ratio
    rows = [
        measured("native-16", ratio(rates["on-16"], runs), "x", ">= 0.5", sixteen | cost | load)
    ]
    for count, bar in ((16, ">= 1.5"), (1, ">= 0.95")):
        on, off = rates[f"on-{count}"], rates[f"off-{count}"]
        details = {"on_per_s": on, "off_per_s": off} | load
        rows.append(measured(f"batching-{count}", ratio(on, off), "x", bar, details))
    return rows


def prepare(client: Client, model: Model) -> Callable[[dict[str, Any]], Any]:
    """A function that asks a model, with all that can be agreed on beforehand agreed on."""
    layouts = {key: ((None, *a.shape[1:]), a.dtype.name) for key, a in model.rows.items()}
    call = client.prepare(model.name, layouts)
    return call.infer


def check(call: Callable[[dict[str, Any]], Any], session: Any, model: Model) -> None:
    """A fast wrong answer is no result."""
    names = [output.name for output in session.get_outputs()]
    for index in range(32):
        inputs = model.request(index)
        got = call(inputs)
        for name, wanted in zip(names, session.run(None, inputs), strict=True):
            np.testing.assert_allclose(got[name], wanted, rtol=1e-5, atol=1e-6)


def script_for(
    daemon: Daemon, model: Model, *, folder: Path | None = None, **options: Any
) -> Script:
    """Requests for the load generator, in the daemon's folder or another."""
    with daemon.client() as client:
        return write_script(folder or daemon.folder, model.name, model, client, **options)


def frame_sizes(daemon: Daemon, model: Model) -> tuple[int, int]:
    """Bytes of a request and of its answer on the socket."""
    script = script_for(daemon, model, count=1)
    request = script.requests.read_bytes()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(daemon.socket))
        sock.sendall(script.setup.read_bytes())
        sock.recv(1 << 16)
        sock.sendall(request)
        return len(request), len(sock.recv(1 << 16))


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and all its threads so far."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def _peer(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(path))
    return sock


def _echo(peer: socket.socket, asked: int, answered: int) -> Callable[[], None]:
    question, buffer = bytes(asked), bytearray(answered)

    def once() -> None:
        peer.sendall(question)
        have = peer.recv_into(buffer)
        while have < answered:
            have += peer.recv_into(buffer, answered - have)

    return once


def _p50_us(call: Callable[[], Any], seconds: float) -> float:
    clock = time.perf_counter_ns
    times: list[float] = []
    until = clock() + int(seconds * 1e9)
    while (before := clock()) < until:
        call()
        times.append((clock() - before) / 1000)
    return figures.median(times[len(times) // 10 :])
