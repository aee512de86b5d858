"""A large configuration with one route changed, and a start with a broken one: what a change costs
those it does not concern."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import figures
from benchmarks.results import Row, measured
from benchmarks.stand import BenchError, Daemon, Stand, load_average
from edged.errors import EdgedError
from edged.generations import ask

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


class _Neighbour(threading.Thread):
    """Asks models in turn, all the time; notes when each answer came and how long it took."""

    def __init__(self, daemon: Daemon, pause_s: float) -> None:
        super().__init__(daemon=True)
        self.answers: list[tuple[float, float]] = []
        self.failed = 0
        self._daemon = daemon
        self._pause_s = pause_s
        self._is_over = threading.Event()

    def run(self) -> None:
        x = np.ones((1, 16), np.float32)
        with self._daemon.client() as client:
            at = 0
            while not self._is_over.wait(self._pause_s):
                at = at % (MODELS - 1) + 1  # never m0, which is what changes
                began = time.perf_counter()
                try:
                    client.infer(f"m{at}", {"x": x})
                except EdgedError:
                    self.failed += 1
                now = time.perf_counter()
                self.answers.append((now, (now - began) * 1000))

    def stop(self) -> None:
        self._is_over.set()
        self.join(60)

    def p99_ms(self, begin: float, end: float) -> float:
        times = sorted(ms for at, ms in self.answers if begin <= at < end)
        if not times:
            raise BenchError("nothing was answered meanwhile")
        return times[int(len(times) * 0.99)]


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
        neighbour = _Neighbour(daemon, 0.001)
        neighbour.start()
        time.sleep(1)
        quiet = time.perf_counter()
        time.sleep(3 * stand.scale)
        begin = time.perf_counter()
        for number in range(count):
            daemon.config.write_text(head + _body(bundles, f", aliases: {{a{number}: 1}}"))
            took.append(_apply(daemon))
            time.sleep(0.05)
        end = time.perf_counter()
        neighbour.stop()
        before, during = neighbour.p99_ms(quiet, begin), neighbour.p99_ms(begin, end)
    load = {"load_average": load_average()}
    return [
        (figures.median(took), {"ms": took} | load),
        (neighbour.failed, {"requests": len(neighbour.answers)}),
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
        _when(lambda: "proved good" in daemon.log.read_text(), daemon)
        daemon.stop()
        good = daemon.config.read_text()
        times: dict[str, list[float]] = {"clean": [], "broken": []}
        for _ in range(max(3, int(STARTS * stand.scale))):
            for name, text in (("clean", good), ("broken", good + "models: [\n")):
                daemon.config.write_text(text)
                times[name].append(daemon.start())
                daemon.stop()
    return min(times["broken"]) / min(times["clean"]), {"s": times, "load_average": load_average()}


def _when(what: Callable[[], bool], daemon: Daemon, limit_s: float = 60.0) -> None:
    until = time.monotonic() + limit_s
    while not what():
        if time.monotonic() > until:
            raise BenchError(f"it did not come about:\n{daemon.tail()}")
        time.sleep(0.05)
