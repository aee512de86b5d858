"""What it costs a request that its model lives in a process of its own."""

from __future__ import annotations

from benchmarks import figures
from benchmarks.native import config, script_for
from benchmarks.results import Row, measured, not_measured
from benchmarks.stand import Stand, load_average
from benchmarks.wire import run_load
from edged.config.schema import ModelConfig

ROUNDS = 5
ROUND_S = 0.7
NAME, UNIT, BAR = "isolation", "us", "<= 60"


def isolation(stand: Stand) -> list[Row]:
    """p50 with ``isolation: model`` less p50 without, one connection of the C generator."""
    if "isolation" not in ModelConfig.__struct_fields__:
        return [not_measured(NAME, UNIT, BAR, "this edged has no `isolation` setting")]
    model = stand.tiny()
    with (
        stand.daemon(config(model)) as plain,
        stand.daemon(config(model, ", isolation: model")) as isolated,
    ):
        script = script_for(plain, model)
        times: dict[str, list[float]] = {"plain": [], "isolated": []}
        for _ in range(ROUNDS):
            for name, daemon in (("plain", plain), ("isolated", isolated)):
                report = run_load(stand, daemon.socket, script, seconds=ROUND_S)
                times[name].append(report["p50_us"])
    added = [a - b for a, b in zip(times["isolated"], times["plain"], strict=True)]
    details = {"p50_us": times, "load_average": load_average()}
    return [measured(NAME, figures.median(added), UNIT, BAR, details)]
