"""What a rollout costs who asks: p50 without one, with a shadow of 100 percent, beside a canary.

    python -m benchmarks.run --only rollout-cost

One client, one request after the other; the three take turns in short windows, and the least of
the windows' medians counts, so that what else runs on the machine meets all of them.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.results import Row, measured
from benchmarks.stand import Stand
from tests.bundles import make_bundle
from tests.e2e.process import running
from tests.models import TinyModel, double, heavy

KINDS = ("plain", "shadow", "canary")
MODELS: dict[str, Callable[[], TinyModel]] = {"tiny": double, "small": lambda: heavy(1, 600)}
ROLLOUTS = {
    "plain": "",
    "shadow": ", rollout: {stable: 1, shadow: {release: 2}}",
    "canary": ", rollout: {stable: 1, canary: {release: 2, trafficPercent: 30}, "
    "guard: {window: 100h}}",
}
ROUNDS = 16
WINDOW_S = 0.08
WAYS = ("infer", "prepared")
BARS = [
    (f"{kind}-{model}-{way}", "x", "<= 1.1" if kind == "shadow" else "")
    for kind in KINDS[1:]
    for model in MODELS
    for way in WAYS
]
"""Name, unit and bar of each row."""


def shadow(stand: Stand) -> list[Row]:
    """All rows."""
    found: dict[str, float] = {}
    raw: dict[str, dict[str, float]] = {}
    folder = Path(tempfile.mkdtemp(dir=stand.folder))
    with running(folder, _prepare(folder)) as daemon, daemon.client() as client:
        for name, make in MODELS.items():
            x = make().sample(1)["x"]
            layout = {"x": ((None, x.shape[1]), "float32")}
            asks: dict[str, dict[str, Callable[[], object]]] = {
                "infer": {k: partial(client.infer, f"{k}-{name}", {"x": x}) for k in KINDS},
                "prepared": {k: partial(client.prepare(f"{k}-{name}", layout), x) for k in KINDS},
            }
            for way in WAYS:
                best = {k: min(us) for k, us in _windows(asks[way], stand.scale).items()}
                for kind in KINDS[1:]:
                    found[f"{kind}-{name}-{way}"] = best[kind] / best["plain"]
                    raw[f"{kind}-{name}-{way}"] = {"us": best[kind], "plain_us": best["plain"]}
        rollouts = {
            one["model"]: {"compared": one["compared"], "left out": one["dropped"]}
            for one in client.status()["rollouts"]
        }
    return [
        measured(name, found[name], unit, bar, {**raw[name], "rollouts": rollouts})
        for name, unit, bar in BARS
    ]


def _prepare(folder: Path) -> str:
    """Two releases for each model and kind; returns the configuration."""
    body = "trust: {require_signatures: false}\nmodels:\n"
    for name, make in MODELS.items():
        for kind in KINDS:
            for release in (1, 2):
                file = folder / f"{kind}-{name}-{release}.edgb"
                make_bundle(file, make(), name=f"{kind}-{name}", release=release)
            body += f"  {kind}-{name}: {{bundle: '{kind}-{name}-*.edgb'{ROLLOUTS[kind]}}}\n"
    return body


def _windows(asks: dict[str, Callable[[], object]], scale: float) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {kind: [] for kind in asks}
    for _ in range(max(2, int(ROUNDS * scale))):
        for kind, ask in asks.items():
            times = []
            end = time.perf_counter() + WINDOW_S
            while time.perf_counter() < end:
                began = time.perf_counter_ns()
                ask()
                times.append(time.perf_counter_ns() - began)
            found[kind].append(statistics.median(times) / 1000)
    return found
