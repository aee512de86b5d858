"""A large configuration with one route changed, and a start with a broken one: what a change costs
those it does not concern."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from benchmarks import figures
from benchmarks.neighbour import neighbour
from benchmarks.results import Row, measured
from benchmarks.stand import Daemon, Stand, load_average
from edged.commands.generations import ask

MODELS, CHANGES, STARTS = 200, 20, 5
WIDTH = 32
PROVING_S = 600.0
HEAD = "reload: {watch: false, confirm: {window: 1h}}\nruntime: {threads: 1}\n"
BARS = (
    ("change-200", "ms", "<= 150"),
    ("change-200-failed", "requests", "== 0"),
    ("change-200-p99", "x", "<= 2"),
    ("boot-broken", "x", "<= 1.2"),
)
"""Name, unit and bar of each row."""


def change(stand: Stand) -> list[Row]:
    """All of it; the daemons have another folder each."""
    bundles = [stand.heavy(number, WIDTH)[0] for number in range(MODELS)]
    rows = [*_change(stand, bundles), _boot(stand, bundles[0])]
    return [
        measured(name, value, unit, bar, raw)
        for (name, unit, bar), (value, raw) in zip(BARS, rows, strict=True)
    ]


def _body(bundles: list[Path], more: str = "") -> str:
    models = "".join(
        f"  m{n}: {{bundle: {path}{'' if n else more}}}\n" for n, path in enumerate(bundles)
    )
    return f"{HEAD}models:\n{models}"


def _change(stand: Stand, bundles: list[Path]) -> list[tuple[float, dict[str, Any]]]:
    count = max(4, int(CHANGES * stand.scale))
    took: list[float] = []
    with stand.prepared(_body(bundles)) as daemon:
        daemon.start(PROVING_S)
        text = daemon.config.read_text()
        head = text[: text.index(HEAD)]
        others = [f"m{n}" for n in range(1, MODELS)]  # never m0, which is what changes
        with neighbour(daemon.socket, others) as seen:
            time.sleep(1)
            quiet = time.perf_counter()
            time.sleep(3 * stand.scale)
            begin = time.perf_counter()
            for number in range(count):
                daemon.config.write_text(head + _body(bundles, f", aliases: {{a{number}: 1}}"))
                took.append(_apply(daemon))
                time.sleep(0.05)
            end = time.perf_counter()
        before, during = seen.p99_ms(quiet, begin), seen.p99_ms(begin, end)
    load = {"load_average": load_average()}
    return [
        (figures.median(took), {"ms": took} | load),
        (seen.failed, {"requests": len(seen.answers)}),
        (during / before, {"before_ms": before, "during_ms": during} | load),
    ]


def _apply(daemon: Daemon) -> float:
    """Milliseconds until the daemon says that the saved file is in effect."""
    began = time.perf_counter()
    ask(str(daemon.socket), daemon.folder / "state", None, timeout_s=60, until="applied")
    return (time.perf_counter() - began) * 1000


def _boot(stand: Stand, bundle: Path) -> tuple[float, dict[str, Any]]:
    with stand.prepared(_body([bundle]).replace("1h", "0")) as daemon:
        daemon.start()
        daemon.wait_until_proven()
        daemon.stop()
        good = daemon.config.read_text()
        times: dict[str, list[float]] = {"clean": [], "broken": []}
        for _ in range(max(3, int(STARTS * stand.scale))):
            for name, text in (("clean", good), ("broken", good + "models: [\n")):
                daemon.config.write_text(text)
                times[name].append(daemon.start())
                daemon.stop()
    return min(times["broken"]) / min(times["clean"]), {"s": times, "load_average": load_average()}
