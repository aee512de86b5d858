"""What ``runtime: auto`` chose, against the best of all that it could choose.

Each runtime has a daemon of its own, as has the choice; they take turns under sixteen connections,
another one first in each round, and one that is not asked sleeps. The fastest by its median is what
the choice is held against, round by round. All run one request at a time: how many runs side by
side pay is measured by each daemon for itself, and on a busy machine each finds something else.
"""

from __future__ import annotations

import contextlib
from typing import Any

from benchmarks import figures
from benchmarks.models import Model
from benchmarks.native import cpu_seconds, script_for
from benchmarks.results import Row, measured
from benchmarks.stand import BenchError, Daemon, Stand, load_average
from benchmarks.wire import run_load
from edged.runtimes.registry import create_runtime

RUNTIMES = ("onnxruntime", "openvino")
BAR = ">= 0.97"
ROUNDS, ROUND_S = 30, 1.0
STARTS = 3
TOLERANCE = {"cnn": 1e-3, "cnn-int8": 0.1}
"""Each runtime rounds in its own way, and the quantised weights are random; their golden samples
allow 0.06."""


def choices(stand: Stand) -> list[Row]:
    """One row for each model."""
    for name in RUNTIMES:
        if problem := create_runtime(name, threads=1).info().problem:
            raise BenchError(problem)
    return [
        _row(stand, "auto-cnn", "cnn", stand.cnn()),
        _row(stand, "auto-cnn-int8", "cnn-int8", stand.cnn_int8()),
    ]


def _row(stand: Stand, row: str, kind: str, model: Model) -> Row:
    with contextlib.ExitStack() as stack:
        # The choice is made first, while nothing else is there to disturb it.
        auto = stack.enter_context(stand.daemon(_body(model, "auto")))
        auto.wait_until_served(model.name)
        chosen = _settled(auto, model)
        daemons: dict[str, Daemon] = {"auto": auto}
        for name in RUNTIMES:
            daemons[name] = stack.enter_context(stand.daemon(_body(model, f"[{name}]")))
            daemons[name].wait_until_served(model.name)
        scripts = {name: script_for(one, model, count=8) for name, one in daemons.items()}
        rates: dict[str, list[float]] = {name: [] for name in daemons}
        cpu_ms: dict[str, list[float]] = {name: [] for name in daemons}
        for turn in range(ROUNDS):
            names = list(daemons)
            for name in names[turn % 3 :] + names[: turn % 3]:
                before = cpu_seconds(daemons[name].pid)
                report = run_load(
                    stand,
                    daemons[name].socket,
                    scripts[name],
                    seconds=ROUND_S,
                    connections=16,
                    tolerance=TOLERANCE[kind],
                )
                used = cpu_seconds(daemons[name].pid) - before
                rates[name].append(report["per_s"])
                cpu_ms[name].append(used / report["with_warmup"] * 1e3)
    if chosen["runtime"] not in RUNTIMES:
        raise BenchError(f"auto chose {chosen['runtime']}, which nothing is held against")
    best = max(RUNTIMES, key=lambda name: figures.median(rates[name]))
    details: dict[str, Any] = {
        "chosen": chosen["runtime"], "why": chosen["choice"], "best": best,
        "items_per_s": rates, "cpu_ms_per_item": cpu_ms, "load_average": load_average(),
    }  # fmt: skip
    return measured(row, figures.paired_ratio(rates["auto"], rates[best]), "x", BAR, details)


def _settled(daemon: Daemon, model: Model) -> dict[str, Any]:
    """The release, when the device is sure, or has started as often as it asks for."""
    for _ in range(STARTS):
        release: dict[str, Any] = daemon.status()["releases"][0]
        if "asked again at the next start" not in release["choice"]:
            break
        daemon.stop()
        daemon.start()
        daemon.wait_until_served(model.name)
    return release


def _body(model: Model, runtime: str) -> str:
    how = "batching: {max_batch: 1, instances: 1}"
    return f"models: {{{model.name}: {{bundle: {model.bundles[1]}, runtime: {runtime}, {how}}}}}\n"
