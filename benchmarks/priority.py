"""A model of a higher class beside one that is asked three times as much as it can do."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import figures, priority_floor, raw
from benchmarks.models import Model
from benchmarks.native import script_for
from benchmarks.results import Row, measured
from benchmarks.stand import Daemon, Stand, load_average
from benchmarks.wire import Script, command_for, run_load

ROUNDS = 5
ROUND_S = 6.0
SURVEYS, SURVEY_S = 5, 0.3
"""The quickest counts: whatever disturbs makes runs look slow, and the flood would be none."""
RATE = 50.0
"""Requests a second of the higher class."""
NICE = -10
"""Of who asks for the higher class, as of the floor's: how late it is woken is not the daemon's."""
FLOOD = 3.0
"""Times what the cores could run."""
LAYERS = {"guard": 1, "flood": 7}
"""Convolutions of about a millisecond each, on small requests: no socket is tested here."""


def priority(stand: Stand) -> list[Row]:
    """p99 of the higher class, idle and in the flood; without and with a slot kept, and bare."""
    guard, flood = (stand.stack(name, layers) for name, layers in LAYERS.items())
    cores = len(os.sched_getaffinity(0))
    session, one = raw.open_session(flood.onnx, 1), flood.request(0)
    alone_us = min(raw.p50_us(session, one, SURVEY_S * stand.scale) for _ in range(SURVEYS))
    rate = FLOOD * cores * 1e6 / alone_us
    rows = []
    with (
        stand.daemon(_body(guard, flood)) as plain,
        stand.daemon(_body(guard, flood, "scheduling: {reserved: {high: 1}}\n")) as reserved,
    ):
        for daemon, name in ((plain, "priority"), (reserved, "priority-reserved")):
            found = _rounds(stand, daemon, guard, flood, rate)
            found |= {"flood_alone_us": alone_us, "flood_per_s": rate, "cores": cores}
            rows.append(_row(name, found))
        seconds = ROUND_S * stand.scale
        bare = [priority_floor.measure(guard, flood, RATE, seconds, seed) for seed in range(ROUNDS)]
    added = [(one.flooded_p99_us - one.idle_p99_us) / one.flood_run_us for one in bare]
    details = {"rounds": [one._asdict() for one in bare], "load_average": load_average()}
    return [*rows, measured("priority-floor", figures.median(added), "runs", "", details)]


def _row(name: str, found: dict[str, Any]) -> Row:
    idle, busy = found["idle_p99_us"], found["flooded_p99_us"]
    if name == "priority":
        runs = found["flood_run_us"]
        added = [(b - a) / run for a, b, run in zip(idle, busy, runs, strict=True)]
        return measured(name, figures.median(added), "runs", "<= 1.2", found)
    return measured(name, figures.paired_ratio(busy, idle), "x", "<= 2", found)


def _rounds(
    stand: Stand, daemon: Daemon, guard: Model, flood: Model, rate: float
) -> dict[str, Any]:
    asked, flooding = script_for(daemon, guard, count=16), script_for(daemon, flood, count=16)
    found: dict[str, Any] = {
        "idle_p50_us": [], "idle_p99_us": [], "flooded_p50_us": [], "flooded_p99_us": [],
        "flood_run_us": [], "flood_runs_per_s": [],
    }  # fmt: skip
    options = {
        "seconds": ROUND_S, "depth": 64, "rate": RATE, "tolerance": 1e-3, "nice": NICE,
    }  # fmt: skip
    for seed in range(ROUNDS):
        report = run_load(stand, daemon.socket, asked, seed=seed, **options)
        found["idle_p50_us"].append(report["p50_us"])
        found["idle_p99_us"].append(report["p99_us"])
        with _flooding(stand, daemon.socket, flooding, rate):
            before = _ran(daemon)
            report = run_load(stand, daemon.socket, asked, seed=seed, **options)
            runs, run_ns = (b - a for a, b in zip(before, _ran(daemon), strict=True))
        found["flooded_p50_us"].append(report["p50_us"])
        found["flooded_p99_us"].append(report["p99_us"])
        found["flood_run_us"].append(run_ns / max(runs, 1) / 1000)
        found["flood_runs_per_s"].append(runs / (ROUND_S * stand.scale))
    return found | {"load_average": load_average()}


@contextlib.contextmanager
def _flooding(stand: Stand, socket: Path, script: Script, rate: float) -> Iterator[None]:
    """Ask at a rate that is mostly refused, which is what a full queue is for."""
    more = {"seconds": ROUND_S + 2, "connections": 4, "depth": 1024, "rate": rate}
    command = command_for(stand, socket, Script(script.requests, None, script.setup), **more)
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        child.kill()
        child.wait()


def _ran(daemon: Daemon) -> tuple[int, int]:
    """Runs of the flood and their time so far."""
    (release,) = (r for r in daemon.status()["releases"] if r["model"] == "flood")
    return release["batches"], release["run_ns"]


def _body(guard: Model, flood: Model, scheduling: str = "") -> str:
    return (
        f"runtime: {{threads: 1}}\n{scheduling}models:\n"
        f"  guard: {{bundle: {guard.bundles[1]}, priority: high}}\n"
        f"  flood: {{bundle: {flood.bundles[1]}, batching: {{max_batch: 1}}}}\n"
    )
