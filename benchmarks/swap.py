"""A new release under load: nothing may fail, and those who ask should hardly notice."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import time
from datetime import datetime
from pathlib import Path

from benchmarks import figures
from benchmarks.native import script_for
from benchmarks.results import Row, measured
from benchmarks.stand import BenchError, Daemon, Stand, load_average
from benchmarks.wire import command_for, read_report

SWAPS = 3
QUIET_S = 3.0
"""Between swaps; the last two seconds before each are what it is compared with."""
BEFORE_NS = 2 * 10**9
LIMIT_S = 30.0


def swap(stand: Stand) -> list[Row]:
    """Four connections without a pause, and three releases that come meanwhile."""
    model = stand.tiny(SWAPS + 1)
    folder = stand.folder / f"incoming-{time.monotonic_ns()}"
    folder.mkdir()
    shutil.copy(model.bundles[1], folder)
    body = f"runtime: {{threads: 1}}\nmodels: {{tiny: {{bundle: {folder}/*.edgb}}}}\n"
    with stand.daemon(body) as daemon:
        trace = daemon.folder / "trace"
        # Releases give different numbers, so answers are only counted here.
        script = script_for(daemon, model, check=False)
        seconds = (SWAPS * (QUIET_S + 3) + 1) / stand.scale  # a swap takes what it takes
        command = command_for(
            stand, daemon.socket, script, seconds=seconds, connections=4, trace=trace
        )
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        ) as load:  # fmt: skip
            windows = []
            for release in range(2, SWAPS + 2):
                time.sleep(QUIET_S)
                _put(model.bundles[release], folder)
                windows.append(_window(daemon, release))
            out, err = load.communicate(timeout=60)
            report = read_report(load.returncode, out, err)
        pairs = list(struct.iter_unpack("<QQ", trace.read_bytes()))
    ratios, during, before = [], [], []
    for start_ns, end_ns in windows:
        before.append(
            figures.percentile(figures.within(pairs, start_ns - BEFORE_NS, start_ns), 0.99)
        )
        during.append(figures.percentile(figures.within(pairs, start_ns, end_ns), 0.99))
        ratios.append(during[-1] / before[-1])
    bad = report["errors"] + report["lost"] + report["wrong"]
    details = {
        "ratios": ratios, "p99_before_us": [ns / 1000 for ns in before],
        "p99_during_us": [ns / 1000 for ns in during],
        "seconds": [(end - start) / 1e9 for start, end in windows],
        "requests_per_s": report["per_s"], "load_average": load_average(),
    }  # fmt: skip
    return [
        measured("swap-failed", bad, "requests", "== 0", {"answered": report["answered"]}),
        measured("swap-p99", figures.median(ratios), "x", "<= 2", details),
    ]


def _put(bundle: Path, folder: Path) -> None:
    """As an operator's tool does: written beside, then renamed."""
    part = folder / "incoming.part"
    shutil.copy(bundle, part)
    # A glob that names both releases keeps both; the old one goes so that it is drained.
    old = list(folder.glob("*.edgb"))
    part.rename(folder / bundle.name)
    for path in old:
        path.unlink()


def _window(daemon: Daemon, release: int) -> tuple[int, int]:
    """From the first word of the new release to the last of the old one, on the monotonic clock."""
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until:
        text = daemon.log.read_text(errors="replace")
        start = re.search(rf"^([\d:.]+) .*tiny.* release {release}\b.*", text, re.MULTILINE)
        end = re.search(
            rf"^([\d:.]+) .*release {release - 1}: draining -> unloaded", text, re.MULTILINE
        )
        if start and end:
            return _monotonic_ns(start[1]), _monotonic_ns(end[1])
        time.sleep(0.1)
    raise BenchError(f"release {release} did not replace the one before:\n{daemon.tail()}")


def _monotonic_ns(clock: str) -> int:
    """A time of the log, which has the wall clock of today with milliseconds."""
    now = datetime.now().astimezone()
    moment = datetime.strptime(clock, "%H:%M:%S.%f").replace(
        year=now.year, month=now.month, day=now.day, tzinfo=now.tzinfo
    )
    return time.monotonic_ns() - int((now - moment).total_seconds() * 1e9)
