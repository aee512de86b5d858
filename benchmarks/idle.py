"""What the daemon costs while nobody asks: start, memory, CPU and wake-ups."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

from benchmarks import figures, web
from benchmarks.models import Model
from benchmarks.native import config, cpu_seconds, script_for
from benchmarks.results import Row, measured
from benchmarks.stand import Daemon, Stand, load_average
from benchmarks.wire import run_load

STARTS = 7
IDLE_S = 30.0
SETTLE_S = 3.0
SERVING = {"memory-http": "<= 100", "memory-grpc": "<= 125"}
"""Resident with HTTP on, and with gRPC as well, after requests of the native protocol and HTTP."""


def idle(stand: Stand) -> list[Row]:
    """Start to READY=1 with a release that is known, then half a minute of nothing."""
    model = stand.tiny()
    with stand.prepared(config(model)) as daemon:
        daemon.start()  # the release becomes known: stored, proven, remembered
        daemon.stop()
        starts = []
        for _ in range(STARTS):
            starts.append(daemon.start())
            daemon.stop()
        daemon.start()
        daemon.wait_until_served(model.name)
        time.sleep(SETTLE_S)
        load = {"load_average": load_average()}
        memory = memory_mb(daemon)
        daemon.wait_until_proven()  # until then its figures are looked at four times a second
        cpu, switches, seconds = _rest(daemon, IDLE_S * stand.scale)
    serving = [_serving(stand, model, name) for name in SERVING]
    return [
        measured(
            "start", figures.median(starts), "s", "<= 0.7", {"starts_s": starts, "aim": 0.45} | load
        ),
        measured("idle-memory", memory["rss"], "MB", "<= 90", {"mb": memory, "aim": 75}),
        *serving,
        measured("idle-cpu", cpu / seconds * 100, "%", "<= 0.1", {"cpu_s": cpu} | load),
        measured("idle-wakeups", switches / seconds, "/s", "<= 2", {"switches": switches}),
    ]


def _serving(stand: Stand, model: Model, name: str) -> Row:
    """Memory with the native protocol and HTTP on, after requests over both."""
    has_grpc = name == "memory-grpc"
    with stand.daemon(config(model), has_http=True, has_grpc=has_grpc) as daemon:
        script = script_for(daemon, model)
        run_load(stand, daemon.socket, script, seconds=0.5, connections=16)
        web.ask(stand, daemon.http, web.files_for(daemon.folder, model), 0.5, 16)
        time.sleep(SETTLE_S)
        memory = memory_mb(daemon)
    details = {"mb": memory, "load_average": load_average()}
    return measured(name, memory["rss"], "MB", SERVING[name], details)


def memory_mb(daemon: Daemon) -> dict[str, float]:
    """Resident and proportional memory, of the daemon and all its children; 1 MB = 10^6 bytes."""
    sums = {"rss": 0.0, "pss": 0.0}
    for pid in family(daemon.pid):
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        for line in text.splitlines():
            name, _, rest = line.partition(":")
            if name.lower() in sums:
                sums[name.lower()] += int(rest.split()[0]) * 1024 / 1e6
    return sums


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            for child in (task / "children").read_text().split():
                found += family(int(child))
    return found


def _rest(daemon: Daemon, seconds: float) -> tuple[float, int, float]:
    """CPU seconds and voluntary context switches while nothing happens."""
    pids = family(daemon.pid)
    before: Any = [(cpu_seconds(pid), _switches(pid)) for pid in pids]
    began = time.monotonic()
    time.sleep(seconds)
    after: Any = [(cpu_seconds(pid), _switches(pid)) for pid in pids]
    cpu = sum(a[0] - b[0] for a, b in zip(after, before, strict=True))
    switches = sum(a[1] - b[1] for a, b in zip(after, before, strict=True))
    return cpu, switches, time.monotonic() - began


def _switches(pid: int) -> int:
    """How often the threads of a process went to sleep by themselves: each is woken again."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            for line in (task / "status").read_text().splitlines():
                if line.startswith("voluntary_ctxt_switches"):
                    total += int(line.split()[1])
    return total
