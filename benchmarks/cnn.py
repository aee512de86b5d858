"""``cnn`` from sixteen connections, against the best of ONNX Runtime alone on as many threads."""

from __future__ import annotations

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
SURVEY_S, ROUND_S = 1.0, 2.5


def sixteen_connections(stand: Stand) -> list[Row]:
    """Items a second; the raw side is surveyed for its best way, which is then measured anew."""
    model = stand.cnn()
    threads = len(os.sched_getaffinity(0))
    ways = _ways(model, threads)
    survey = {name: _items_per_s(way, SURVEY_S * stand.scale) for name, way in ways.items()}
    best = max(survey, key=lambda name: survey[name])
    body = f"runtime: {{threads: {threads}}}\nmodels: {{cnn: {{bundle: {model.bundles[1]}}}}}\n"
    ours: list[float] = []
    raws: list[float] = []
    with stand.daemon(body) as daemon:
        script = script_for(daemon, model, count=8)
        for _ in range(ROUNDS):
            raws.append(_items_per_s(ways[best], ROUND_S * stand.scale))
            report = run_load(
                stand, daemon.socket, script, seconds=ROUND_S, connections=16, tolerance=1e-3
            )
            ours.append(report["per_s"])
        release = daemon.status()["releases"][0]
    details = {
        "threads": threads, "survey_items_per_s": survey, "best": best, "raw_items_per_s": raws,
        "edged_items_per_s": ours, "release": release, "load_average": load_average(),
    }  # fmt: skip
    return [measured("cnn-16", figures.paired_ratio(ours, raws), "x", ">= 0.9", details)]


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
