"""A hundred models in the memory of twenty: how often one is loaded, and whether all are right."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import figures
from benchmarks.results import Row, measured
from benchmarks.stand import BenchError, Daemon, Stand, load_average
from benchmarks.traces import belady, least_recent, zipf
from edged.client import Client

MODELS, ROOM, REQUESTS, SEED = 100, 20, 3000, 1
WIDTH = 1100
"""The largest matrix of a model has so many rows and columns: five million bytes."""
PROVING_S = 600.0
"""Each of the models has its trial at the first start."""


def many(stand: Stand) -> list[Row]:
    """One client asks for models in the order of a Zipf trace, and waits for each answer."""
    bundles = [stand.heavy(number, WIDTH) for number in range(MODELS)]
    trace = zipf(MODELS, int(REQUESTS * stand.scale), SEED)
    expected = [_expected(onnx) for _, onnx in bundles]
    paths = [bundle for bundle, _ in bundles]
    with stand.prepared(_body(paths, "null")) as daemon:
        daemon.start(PROVING_S)
        budget = _budget(daemon)
        _change_budget(daemon, paths, budget)
        with daemon.client() as client:
            raw = _ask(client, trace, expected)
        status = daemon.status()
    memory = [release["memory"] for release in status["releases"]]
    loads, fewest = sum(one["loads"] for one in memory), belady(trace, ROOM)
    raw |= {
        "loads": loads,
        "belady": fewest,
        "least_recent": least_recent(trace, ROOM),
        "budget_bytes": budget,
        "bytes_of_each": max(one["bytes"] for one in memory),
        "load_average": load_average(),
    }
    return [
        measured("many-loads", loads / fewest, "x", "<= 1.4", raw),
        measured("many-wrong", raw["wrong"], "requests", "== 0", {"requests": len(trace)}),
    ]


def _ask(client: Client, trace: list[int], expected: list[np.ndarray[Any, Any]]) -> dict[str, Any]:
    hits, misses, wrong = [], [], 0
    resident = most = 0
    x = _question()
    for at, model in enumerate(trace):
        began = time.perf_counter()
        y = client.infer(f"m{model}", {"x": x}, timeout=60)["y"]
        took_ms = 1000 * (time.perf_counter() - began)
        wrong += not np.allclose(y, expected[model], rtol=1e-4, atol=1e-5)
        (hits if took_ms < _HIT_MS else misses).append(took_ms)
        if at % 50 == 0:
            status = client.status()
            resident = max(resident, sum(r["memory"]["resident"] for r in status["releases"]))
            most = max(most, status["rss_bytes"])
    if resident > ROOM:
        raise BenchError(f"{resident} models were in memory; the budget is for {ROOM}")
    return {
        "wrong": wrong,
        "resident_at_most": resident,
        "rss_bytes_at_most": most,
        "hit_ms": figures.median(hits),
        "miss_ms": figures.median(misses),
    }


_HIT_MS = 5.0
"""An answer of a model that is in memory takes a fifth of that, a load several times as long."""


def _question() -> np.ndarray[Any, Any]:
    return np.random.default_rng(7).standard_normal((1, 16)).astype(np.float32)


def _expected(onnx: Path) -> np.ndarray[Any, Any]:
    """What ONNX Runtime alone answers."""
    import onnxruntime  # noqa: PLC0415 - where it is needed

    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    found: np.ndarray[Any, Any] = session.run(["y"], {"x": _question()})[0]
    return found


def _budget(daemon: Daemon) -> int:
    """Twenty models: nineteen that are there, and the twentieth while it loads."""
    memory = [release["memory"] for release in daemon.status()["releases"]]
    held = max(one["bytes"] for one in memory)
    loading = max(one["loading_bytes"] for one in memory)
    return (((ROOM - 1) * held + loading) >> 10) << 10


def _body(paths: list[Path], budget: str) -> str:
    models = "".join(
        f"  m{number}: {{bundle: {path}, memory: {{load: lazy}}}}\n"
        for number, path in enumerate(paths)
    )
    return f"runtime: {{threads: 1}}\nmemory: {{budget: {budget}}}\nmodels:\n{models}"


def _change_budget(daemon: Daemon, paths: list[Path], budget: int) -> None:
    """As an operator does: a saved file."""
    text = daemon.config.read_text()
    head = text[: text.index("runtime:")]
    daemon.config.write_text(head + _body(paths, f"{budget >> 10}KiB"))
    until = time.monotonic() + 60
    while daemon.status()["memory"]["cpu"]["budget_bytes"] != budget:
        if time.monotonic() > until:
            raise BenchError(f"the budget was not taken:\n{daemon.tail()}")
        time.sleep(0.05)
