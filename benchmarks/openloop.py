"""An open loop at a rate where nothing queues: what an edge device mostly sees."""

from __future__ import annotations

from benchmarks import figures
from benchmarks.native import config, script_for
from benchmarks.results import Row, measured
from benchmarks.stand import Stand, load_average
from benchmarks.wire import run_load

ROUNDS = 5
ROUND_S = 4.0
RATE = 200.0


def poisson(stand: Stand) -> list[Row]:
    """p50 from the due time of 200 requests a second, against the bare loop of ``floor.py``."""
    model = stand.tiny()
    ours: list[float] = []
    floors: list[float] = []
    tails: list[float] = []
    with stand.daemon(config(model)) as daemon:
        script = script_for(daemon, model)
        path = daemon.folder / "floor"
        with stand.child("floor", "serve", path, model.onnx):
            for seed in range(ROUNDS):
                options = {"seconds": ROUND_S, "depth": 64, "rate": RATE, "seed": seed}
                floors.append(run_load(stand, path, script, **options)["p50_us"])
                report = run_load(stand, daemon.socket, script, **options)
                ours.append(report["p50_us"])
                tails.append(report["p99_us"])
    details = {
        "edged_p50_us": ours, "edged_p99_us": tails, "floor_p50_us": floors,
        "load_average": load_average(),
    }  # fmt: skip
    return [measured("open-loop", figures.paired_ratio(ours, floors), "x", "<= 1.4", details)]
