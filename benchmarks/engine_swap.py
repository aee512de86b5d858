"""An engine that is built under load and swapped to: nothing may fail, and few should notice.

The builder is the tests' stand-in for TensorRT and its GPU in the real building process: what is
measured is the daemon's own life of an engine (process, golden samples, seal, cache, worker,
swap), not TensorRT.
"""

from __future__ import annotations

import os
import re
import struct
import subprocess
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from benchmarks import figures
from benchmarks.models import Model
from benchmarks.native import script_for
from benchmarks.results import Row, measured
from benchmarks.stand import ROOT, BenchError, Daemon, Stand, load_average
from benchmarks.wire import command_for, read_report

ROUNDS = 3
BEFORE_NS = 2 * 10**9
"""What the window is compared with."""
QUIET_S = 5
"""Until the build begins: the load has long been going then."""
LOAD_S = 25.0
"""A build with the stand-in takes two seconds; a busy machine takes its time."""


def engine_swap(stand: Stand) -> list[Row]:
    """Four connections without a pause, and a daemon that builds, each time from nothing."""
    from tests.fakes.tensorrt_site import make_site  # noqa: PLC0415 - of a checkout alone

    model = stand.tiny()
    site = stand.folder / f"site-{time.monotonic_ns()}"
    make_site(site)
    rounds = [_round(stand, model, site) for _ in range(ROUNDS)]
    ratios = [during / before for before, during, *_ in rounds]
    details = {
        "ratios": ratios,
        "p99_before_us": [before / 1000 for before, *_ in rounds],
        "p99_during_us": [during / 1000 for _, during, *_ in rounds],
        "seconds": [seconds for *_, seconds, _, _ in rounds],
        "load_average": load_average(),
    }
    bad, answered = sum(one[3] for one in rounds), sum(one[4] for one in rounds)
    return [
        measured("engine-swap-failed", bad, "requests", "== 0", {"answered": answered}),
        measured("engine-swap-p99", figures.median(ratios), "x", "<= 2", details),
    ]


def _round(stand: Stand, model: Model, site: Path) -> tuple[float, float, float, int, int]:
    """p99 before and during, ns; how long it took, s; what went wrong, and what was answered."""
    body = (
        f"runtime: {{threads: 1}}\nengines: {{quiet: {QUIET_S}s}}\n"
        f"models: {{tiny: {{bundle: {model.bundles[1]}, runtime: [tensorrt, onnxruntime]}}}}\n"
    )
    paths = os.pathsep.join([os.fspath(site), os.fspath(ROOT)])
    with stand.prepared(body, {"PYTHONPATH": paths}) as daemon:
        daemon.start()
        trace = daemon.folder / "trace"
        script = script_for(daemon, model)
        command = command_for(
            stand, daemon.socket, script, seconds=LOAD_S / stand.scale, connections=4, trace=trace
        )
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as load:
            start_ns, end_ns = _window(daemon, load.poll)
            out, err = load.communicate(timeout=120)
            report = read_report(load.returncode, out, err)
        pairs = list(struct.iter_unpack("<QQ", trace.read_bytes()))
    before = figures.percentile(figures.within(pairs, start_ns - BEFORE_NS, start_ns), 0.99)
    during = figures.percentile(figures.within(pairs, start_ns, end_ns), 0.99)
    bad = report["errors"] + report["lost"] + report["wrong"]
    return before, during, (end_ns - start_ns) / 1e9, bad, report["answered"]


def _window(daemon: Daemon, is_over: Callable[[], int | None]) -> tuple[int, int]:
    """From the start of the build to the end of the session before, on the monotonic clock."""
    while is_over() is None:
        text = daemon.log.read_text(errors="replace")
        start = re.search(r"^([\d:.]+) .*building an engine", text, re.MULTILINE)
        end = re.search(r"^([\d:.]+) .*release 1: draining -> unloaded", text, re.MULTILINE)
        if start and end:
            return _monotonic_ns(start[1]), _monotonic_ns(end[1])
        time.sleep(0.1)
    raise BenchError(f"the engine was not swapped to while the load went on:\n{daemon.tail()}")


def _monotonic_ns(clock: str) -> int:
    """A time of the log, which has the wall clock of today with milliseconds."""
    now = datetime.now().astimezone()
    moment = datetime.strptime(clock, "%H:%M:%S.%f").replace(
        year=now.year, month=now.month, day=now.day, tzinfo=now.tzinfo
    )
    return time.monotonic_ns() - int((now - moment).total_seconds() * 1e9)
