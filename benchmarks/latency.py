"""Latency over load: the daemon beside a bare loop around ONNX Runtime, asked in the same way.

    python -m benchmarks.latency [--scale X] [--redraw]

Writes ``latency.json`` and ``latency.svg``. The bare loop is ``floor.py serve``: one process, one
thread of Python, as many of ONNX Runtime as the daemon has, no queue but the socket's. Load is
what is asked for over the most that this loop can do.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks import figures, plot
from benchmarks.models import Model
from benchmarks.native import script_for
from benchmarks.stand import BenchError, Stand, load_average, machine
from benchmarks.wire import Script, run_load

HERE = Path(__file__).resolve().parent
LOADS = (0.1, 0.25, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5)
ROUNDS = 3
PEAKS, PEAK_S, POINT_S = 3, 0.5, 2.5
CONNECTIONS, DEPTH = 4, 250
"""Together below ``queue.max_rows``: nobody is refused, and those beyond wait in the generator."""
PEAK_DEPTH = 4
SIDES = {"raw": "#888", "edged": "#1663b0"}
QUANTILES = {"p50_us": True, "p99_us": False}
Points = dict[str, dict[str, list[float | None]]]


def measure(stand: Stand, threads: int) -> dict[str, Any]:
    """Every point of every model."""
    found = {}
    for model, wanted in ((stand.tiny(), 1), (stand.cnn(), threads)):
        found[model.name] = {"threads": wanted, **_model(stand, model, wanted)}
    return found


def _model(stand: Stand, model: Model, threads: int) -> dict[str, Any]:
    bundle = model.bundles[1]
    body = f"runtime: {{threads: {threads}}}\nmodels: {{{model.name}: {{bundle: {bundle}}}}}\n"
    rounds: list[dict[str, list[dict[str, Any] | None]]] = []
    with stand.daemon(body) as daemon:
        script = script_for(daemon, model, count=8)
        path = daemon.folder / "floor"
        with stand.child("floor", "serve", path, model.onnx, str(threads)):
            sockets = {"raw": path, "edged": daemon.socket}
            peaks = []
            for seed in range(ROUNDS):
                peaks += [_peak(stand, path, script) for _ in range(PEAKS)]
                # The best: whatever disturbs makes it smaller, and nothing makes it larger.
                rate = max(peaks)
                rounds.append(
                    {
                        # In turns at each load: what else the machine does is in both.
                        str(load): [
                            _point(stand, socket, script, load * rate, seed)
                            for socket in sockets.values()
                        ]
                        for load in LOADS
                    }
                )
    return {"capacity_per_s": peaks, "load_average": load_average(), "points": _middle(rounds)}


def _peak(stand: Stand, socket: Path, script: Script) -> float:
    options = {"connections": CONNECTIONS, "depth": PEAK_DEPTH, "tolerance": 1e-3}
    return float(run_load(stand, socket, script, seconds=PEAK_S, **options)["per_s"])


def _point(
    stand: Stand, socket: Path, script: Script, rate: float, seed: int
) -> dict[str, Any] | None:
    """One side at one load; None when it fell so far behind that answers never came."""
    options = {"connections": CONNECTIONS, "depth": DEPTH, "rate": rate, "tolerance": 1e-3}
    try:
        return run_load(stand, socket, script, seconds=POINT_S, seed=seed, **options)
    except BenchError as exc:
        print(exc, file=sys.stderr)
        return None


def _middle(rounds: Iterable[Mapping[str, list[dict[str, Any] | None]]]) -> Points:
    """The median of the rounds, by side and quantile, in the order of the loads."""
    every, points = list(rounds), Points()
    for index, side in enumerate(SIDES):
        points[side] = {}
        for quantile in QUANTILES:
            line: list[float | None] = []
            for load in map(str, LOADS):
                reports = [found[load][index] for found in every]
                values = [one[quantile] for one in reports if one and one["answered"]]
                line.append(figures.median(values) if values else None)
            points[side][quantile] = line
    return points


def picture(document: Mapping[str, Any]) -> str:
    """The plot of a document that ``main`` wrote."""
    panels = {}
    for name, found in document["models"].items():
        threads = found["threads"]
        rate = max(found["capacity_per_s"])
        words = f"{threads} thread" + "s" * (threads > 1)
        panels[f"{name}, {words}: the bare loop does {rate:,.0f}/s"] = [
            plot.Line(
                f"{'ONNX Runtime' if side == 'raw' else side} {quantile[:3]}",
                colour,
                is_dashed,
                [
                    (load, us)
                    for load, us in zip(
                        document["loads"], found["points"][side][quantile], strict=True
                    )
                    if us is not None
                ],
            )
            for side, colour in SIDES.items()
            for quantile, is_dashed in QUANTILES.items()
        ]
    title = "Latency from the time a request was due (Poisson, one row each)"
    return plot.draw(title, "asked for ÷ what the bare loop can do", panels)


def main() -> None:
    """Measure, write, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="of all durations")
    parser.add_argument("--load", type=Path, default=HERE.parent / "build/load")
    parser.add_argument("--redraw", action="store_true", help="measure nothing, only draw")
    arguments = parser.parse_args()
    data = HERE / "latency.json"
    if not arguments.redraw:
        folder = Path(tempfile.mkdtemp(prefix="edged-bench-"))
        try:
            about = machine()
            models = measure(Stand(folder, arguments.load, arguments.scale), about["cores"])
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        document = {"machine": about, "loads": LOADS, "models": models}
        data.write_text(json.dumps(document, indent=1) + "\n")
    (HERE / "latency.svg").write_text(picture(json.loads(data.read_text())))


if __name__ == "__main__":
    main()
