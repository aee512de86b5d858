"""A device that is asked three times what it can do, by two classes, in an open loop.

Who was let in should have its answer in time, the device should do as much as ever, and what waits
should stay within its bound. Peak and overload are measured in turns, and so is a server that does
nothing else (``overload_floor.py``).

A closed loop's peak is nearly all of the higher class, so one model's: two that run in turn find
the other's numbers in the caches. ``overload-goodput`` is told by the most of the same mix instead.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import figures, overload_floor
from benchmarks.models import Model
from benchmarks.native import script_for
from benchmarks.results import Row, measured
from benchmarks.stand import BenchError, Daemon, Stand, load_average
from benchmarks.wire import Script, command_for, read_report

ROUNDS = 5
ROUND_S, FULL_S = 12.0, 60.0
PEAK_S = 3.0
TIMES = {"upper": 0.6, "lower": 2.4}
"""What each class asks for, in peaks: the higher one what can be done, together three."""
OFFERED = (0.7, 0.8, 0.9, 1.0, 1.15, 1.3)
"""Of how many peaks the most is looked for, with the classes in the proportion of the flood."""
OFFERED_S, FLOOR_S = 1.5, 4.0
DEADLINE_US = {"upper": 50_000, "lower": 100_000}
LAYERS = 3
"""Convolutions of about a millisecond each, on small requests: no socket is tested here."""
CAP = 16 << 10
"""Bytes that may wait for each model: a good tenth of a second of requests of 64 bytes."""
TOLERANCE = 1e-3
WATCH_S = 0.2


class Side(NamedTuple):
    """A class: what it says with a deadline, and without."""

    timed: Script
    plain: Script


class Round(NamedTuple):
    """What one server did.

    Args:
        peak: answers a second of a closed loop, before or after the flood.
        flood: the generators' reports, by class.
        offered: answers in time a second for what was asked, in peaks.
    """

    peak: float
    flood: dict[str, dict[str, Any]]
    offered: dict[float, float]


def overload(stand: Stand) -> list[Row]:
    """Of those let in, in time; of the peak, done; of the bound, bytes that waited."""
    models = {name: stand.stack(name, LAYERS) for name in TIMES}
    with stand.daemon(_body(models)) as daemon, overload_floor.served(stand, models) as bare:
        found, seen = _rounds(stand, daemon, bare, models)
    kept = {name: _kept([one.flood for one in found["daemon"]], name) for name in TIMES}
    figure = {who: _figures(rounds) for who, rounds in found.items()}
    daemons, floors = figure["daemon"], figure["floor"]
    details = {
        "rounds": [one.flood for one in found["daemon"]], "kept": kept,
        "peaks": [one.peak for one in found["daemon"]], "queue_bytes": seen,
        "load_average": load_average(), "cores": len(os.sched_getaffinity(0)),
    }  # fmt: skip
    bare_done = [_in_time(one.flood) for one in found["floor"]]
    beside = figures.paired_ratio(bare_done, [one.peak for one in found["daemon"]])
    return [
        measured("overload-kept", min(kept.values()), "x", ">= 0.99", details),
        measured("overload-done", daemons["done"], "x", ">= 0.9", daemons),
        measured("overload-bytes", max(seen) / CAP, "x", "<= 1", {"cap": CAP}),
        measured("overload-goodput", daemons["goodput"], "x", "", daemons),
        measured("overload-floor", floors["done"], "x", "", floors | {"daemon_peak": beside}),
    ]


def _figures(rounds: list[Round]) -> dict[str, Any]:
    """Answers in time of one server, as parts of its peak and of the most that it gave."""
    done = [_in_time(one.flood) / one.peak for one in rounds]
    offered = {
        times: figures.median([one.offered[times] / one.peak for one in rounds])
        for times in OFFERED
    }
    value = figures.median(done)
    return {
        "done": value, "goodput": value / max(offered.values()), "rounds": done,
        "offered": offered, "per_s": [_in_time(one.flood) for one in rounds],
        "peaks": [one.peak for one in rounds],
    }  # fmt: skip


def _kept(rounds: list[dict[str, dict[str, Any]]], name: str) -> float:
    """Of all that were let in, the share that was answered in time."""
    totals = {
        key: sum(reports[name][key] for reports in rounds) for key in ("in_time", "late", "expired")
    }
    if not totals["in_time"]:
        raise BenchError(f"nothing of the {name} class was answered in time: {rounds}")
    return totals["in_time"] / sum(totals.values())


def _in_time(reports: Mapping[str, dict[str, Any]]) -> float:
    """Answers in time a second, of both classes."""
    return float(sum(report["in_time"] / report["seconds"] for report in reports.values()))


def _rounds(
    stand: Stand, daemon: Daemon, bare: Path, models: Mapping[str, Model]
) -> tuple[dict[str, list[Round]], list[int]]:
    """Daemon and floor in turns, and the bytes that waited in the daemon when it was flooded."""
    sides = {name: _side(daemon, model) for name, model in models.items()}
    askers = {
        "daemon": Asker(stand, daemon.socket, sides, FULL_S if stand.is_full else ROUND_S),
        "floor": Asker(stand, bare, sides, FLOOR_S),
    }
    found: dict[str, list[Round]] = {who: [] for who in askers}
    seen: list[int] = []
    for seed in range(ROUNDS):
        for who, asker in askers.items():
            with _watched(daemon, seen) if who == "daemon" else nullcontext():
                found[who].append(asker.round(seed))
    return found, seen


class Asker:
    """Generators for one server.

    Args:
        stand: where the generator is.
        socket: of the server.
        sides: what is said.
        seconds: of a flood.
    """

    def __init__(
        self, stand: Stand, socket: Path, sides: Mapping[str, Side], seconds: float
    ) -> None:
        self._stand, self._socket, self._sides = stand, socket, sides
        self._seconds = seconds
        self._most = 0.0

    def round(self, seed: int) -> Round:
        """The flood between two peaks: what else the machine did is in both; then less and more."""
        before = self._peak()
        self._most = max(self._most, before)
        flood = self._open(sum(TIMES.values()), self._seconds, seed)
        after = self._peak()
        self._most = max(self._most, after)
        peak = max(before, after)
        offered = {times: _in_time(self._open(times, OFFERED_S, seed)) for times in OFFERED}
        return Round(peak, flood, offered)

    def _peak(self) -> float:
        """Answers a second in a closed loop that always has something waiting."""
        options = {"seconds": PEAK_S, "connections": 4, "depth": 2}
        scripts = {name: side.plain for name, side in self._sides.items()}
        reports = _together(self._stand, self._socket, scripts, dict.fromkeys(scripts, options))
        return float(sum(report["per_s"] for report in reports.values()))

    def _open(self, times: float, seconds: float, seed: int) -> dict[str, dict[str, Any]]:
        """An open loop of both classes that asks for so many peaks."""
        share = times / sum(TIMES.values())
        options = {
            name: {
                "seconds": seconds, "connections": 4, "depth": 512, "seed": 2 * seed + number,
                "rate": share * TIMES[name] * self._most, "deadline_us": DEADLINE_US[name],
            }
            for number, name in enumerate(self._sides)
        }  # fmt: skip
        scripts = {name: side.timed for name, side in self._sides.items()}
        return _together(self._stand, self._socket, scripts, options)


def _together(
    stand: Stand,
    socket: Path,
    scripts: Mapping[str, Script],
    options: Mapping[str, dict[str, Any]],
) -> dict[str, dict[str, Any]]:
    """Generators side by side, one a class."""
    children = {
        name: subprocess.Popen(
            command_for(stand, socket, script, tolerance=TOLERANCE, **options[name]),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for name, script in scripts.items()
    }  # fmt: skip
    reports = {}
    for name, child in children.items():
        out, err = child.communicate(timeout=600)
        reports[name] = read_report(child.returncode, out, err)
    return reports


@contextmanager
def _watched(daemon: Daemon, seen: list[int]) -> Iterator[None]:
    """The bytes of the queue that holds most, now and then."""
    ended = threading.Event()

    def watch() -> None:
        with daemon.client() as client:
            while not ended.wait(WATCH_S):
                seen.append(max(one["queue_bytes"] for one in client.status()["releases"]))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _side(daemon: Daemon, model: Model) -> Side:
    plain = script_for(daemon, model, count=16)
    folder: Path = daemon.folder / "timed"
    folder.mkdir(exist_ok=True)
    timeout_us = DEADLINE_US[model.name]
    return Side(script_for(daemon, model, count=16, timeout_us=timeout_us, folder=folder), plain)


def _body(models: Mapping[str, Model]) -> str:
    classes = {"upper": "high", "lower": "low"}
    lines = [
        f"  {name}: {{bundle: {model.bundles[1]}, priority: {classes[name]}, "
        f"batching: {{max_batch: 1}}, queue: {{max_size: {CAP}B}}}}\n"
        for name, model in models.items()
    ]
    return "runtime: {threads: 1}\nmodels:\n" + "".join(lines)
