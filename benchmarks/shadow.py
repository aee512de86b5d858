"""What a rollout costs who asks: p50 without one, with a shadow of 100 percent, beside a canary.

    python benchmarks/shadow.py [SECONDS]

One client, one request after the other; the three take turns in short windows, and the least of
the windows' medians counts, so that what else runs on the machine meets all of them.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.bundles import make_bundle  # noqa: E402
from tests.e2e.process import running  # noqa: E402
from tests.models import TinyModel, double, heavy  # noqa: E402

KINDS = ("plain", "shadow", "canary")
MODELS: dict[str, Callable[[], TinyModel]] = {"tiny": double, "small": lambda: heavy(1, 600)}
ROLLOUTS = {
    "plain": "",
    "shadow": ", rollout: {stable: 1, shadow: {release: 2}}",
    "canary": ", rollout: {stable: 1, canary: {release: 2, trafficPercent: 30}, "
    "guard: {window: 100h}}",
}
ROUNDS = 16


def main(seconds: float) -> None:
    """Print a line for each model and way of asking."""
    folder = Path(tempfile.mkdtemp())
    body = "trust: {require_signatures: false}\nmodels:\n"
    for name, make in MODELS.items():
        for kind in KINDS:
            for release in (1, 2):
                file = folder / f"{kind}-{name}-{release}.edgb"
                make_bundle(file, make(), name=f"{kind}-{name}", release=release)
            body += f"  {kind}-{name}: {{bundle: '{kind}-{name}-*.edgb'{ROLLOUTS[kind]}}}\n"
    with running(folder, body) as daemon, daemon.client() as client:
        for name, make in MODELS.items():
            x = make().sample(1)["x"]
            layout = {"x": ((None, x.shape[1]), "float32")}
            asks: dict[str, dict[str, Callable[[], object]]] = {
                "infer": {k: partial(client.infer, f"{k}-{name}", {"x": x}) for k in KINDS},
                "prepared": {k: partial(client.prepare(f"{k}-{name}", layout), x) for k in KINDS},
            }
            for way, by_kind in asks.items():
                best = {k: min(us) for k, us in _windows(by_kind, seconds).items()}
                shown = ", ".join(
                    f"{kind} {us:.1f} us ({us / best['plain']:.2f})" for kind, us in best.items()
                )
                print(f"{name} {way}: {shown}", flush=True)
        for one in client.status()["rollouts"]:
            print(f"{one['model']}: compared {one['compared']}, left out {one['dropped']}")


def _windows(asks: dict[str, Callable[[], object]], seconds: float) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {kind: [] for kind in asks}
    for _ in range(ROUNDS):
        for kind, ask in asks.items():
            times = []
            end = time.perf_counter() + seconds
            while time.perf_counter() < end:
                began = time.perf_counter_ns()
                ask()
                times.append(time.perf_counter_ns() - began)
            found[kind].append(statistics.median(times) / 1000)
    return found


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 0.25)
