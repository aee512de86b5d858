"""An open loop at a rate where nothing queues: what an edge device mostly sees."""

from __future__ import annotations

from typing import Any

from benchmarks import figures, web
from benchmarks.native import config, script_for
from benchmarks.results import Row, measured
from benchmarks.stand import Stand, load_average
from benchmarks.wire import run_load

ROUNDS = 5
ROUND_S = 4.0
RATE = 200.0
HTTP_CONNECTIONS = 4
"""A client's pool: at this rate one is nearly always free, and another where it is not."""
BARS = {"open-loop": "<= 1.3", "open-loop-http": "<= 1.5"}


def poisson(stand: Stand) -> list[Row]:
    """p50 from the due time of 200 requests a second, against the bare loop of ``floor.py``.

    The native protocol and HTTP, of one daemon that serves both.
    """
    model = stand.tiny()
    found: dict[str, list[float]] = {}

    def keep(side: str, report: dict[str, Any]) -> None:
        for name in ("p50_us", "p99_us"):
            found.setdefault(f"{side}_{name}", []).append(report[name])

    with stand.daemon(config(model), has_http=True) as daemon:
        script = script_for(daemon, model)
        files = web.files_for(daemon.folder, model)
        path = daemon.folder / "floor"
        with stand.child("floor", "serve", path, model.onnx):
            for seed in range(ROUNDS):
                options = {"seconds": ROUND_S, "depth": 64, "rate": RATE, "seed": seed}
                keep("floor", run_load(stand, path, script, **options))
                keep("open-loop", run_load(stand, daemon.socket, script, **options))
                seconds = ROUND_S * stand.scale
                asked = (daemon.http, files, seconds, HTTP_CONNECTIONS)
                keep("open-loop-http", web.ask(stand, *asked, rate=RATE, seed=seed))
    floors = found["floor_p50_us"]
    details: dict[str, Any] = {**found, "load_average": load_average()}
    return [
        measured(name, figures.paired_ratio(found[f"{name}_p50_us"], floors), "x", bar, details)
        for name, bar in BARS.items()
    ]
