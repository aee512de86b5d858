"""``cnn`` from sixteen connections, against the best of ONNX Runtime alone on as many threads.

Both ways to use the cores are served: runs of one thread side by side, which have the bar, and runs
that share all threads, the default, which answer a lone request sooner.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any

from benchmarks import figures, raw
from benchmarks.models import Model
from benchmarks.native import script_for
from benchmarks.results import Row, measured
from benchmarks.stand import Stand, load_average
from benchmarks.wire import run_load

ROUNDS = 5
BATCHES = (1, 2, 4, 8)
SHARED = "cnn-16-shared"
"""The row of runs that share all threads."""
SURVEY_S, ROUND_S = 1.0, 2.5


def sixteen_connections(stand: Stand) -> list[Row]:
    """Items a second; the raw side is surveyed for its best way, which is then measured anew."""
    model = stand.cnn()
    cores = len(os.sched_getaffinity(0))
    ways = _ways(model, cores)
    survey = {name: _items_per_s(way, SURVEY_S * stand.scale) for name, way in ways.items()}
    best = max(survey, key=lambda name: survey[name])
    ours: dict[int, list[float]] = {1: [], cores: []}
    raws: list[float] = []
    with contextlib.ExitStack() as stack:
        daemons = {n: stack.enter_context(stand.daemon(_body(model, n))) for n in ours}
        scripts = {n: script_for(daemon, model, count=8) for n, daemon in daemons.items()}
        for _ in range(ROUNDS):
            raws.append(_items_per_s(ways[best], ROUND_S * stand.scale))
            for n, daemon in daemons.items():
                report = run_load(
                    stand,
                    daemon.socket,
                    scripts[n],
                    seconds=ROUND_S,
                    connections=16,
                    tolerance=1e-3,
                )
                ours[n].append(report["per_s"])
        releases = {n: daemon.status()["releases"][0] for n, daemon in daemons.items()}
    details = {
        n: {
            "threads": n, "survey_items_per_s": survey, "best": best, "raw_items_per_s": raws,
            "edged_items_per_s": ours[n], "release": releases[n], "load_average": load_average(),
        }
        for n in ours
    }  # fmt: skip
    return [
        measured("cnn-16", figures.paired_ratio(ours[1], raws), "x", ">= 0.9", details[1]),
        measured(SHARED, figures.paired_ratio(ours[cores], raws), "x", "", details[cores]),
    ]


def _body(model: Model, threads: int) -> str:
    return f"runtime: {{threads: {threads}}}\nmodels: {{cnn: {{bundle: {model.bundles[1]}}}}}\n"


def _ways(model: Model, threads: int) -> dict[str, tuple[Any, dict[str, Any], int]]:
    """Session, input and callers of every way to use the threads: inside a run, or across runs."""
    inside, alone = raw.open_session(model.onnx, threads), raw.open_session(model.onnx, 1)
    ways = {}
    for batch in BATCHES:
        inputs = model.request(0, batch)
        ways[f"batch {batch}, {threads} threads in a run"] = (inside, inputs, 1)
        ways[f"batch {batch}, {threads} runs of a thread"] = (alone, inputs, threads)
    return ways


def _items_per_s(way: tuple[Any, dict[str, Any], int], seconds: float) -> float:
    session, inputs, callers = way
    return raw.calls_per_s(session, inputs, seconds, callers) * len(inputs["x"])
