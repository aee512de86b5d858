"""A device that is asked three times what it can do, by two classes, in an open loop.

Who was let in should have its answer in time, the device should do as much as ever, and what waits
should stay within its bound. Peak and overload are measured in turns.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import figures
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


def overload(stand: Stand) -> list[Row]:
    """Of those let in, in time; of the peak, done; of the bound, bytes that waited."""
    models = {name: stand.stack(name, LAYERS) for name in TIMES}
    with stand.daemon(_body(models)) as daemon:
        found = _rounds(stand, daemon, models)
    kept = {name: _kept(found["rounds"], name) for name in TIMES}
    done = [
        _in_time(reports) / peak
        for reports, peak in zip(found["rounds"], found["peaks"], strict=True)
    ]
    found |= {"kept": kept, "load_average": load_average(), "cores": len(os.sched_getaffinity(0))}
    return [
        measured("overload-kept", min(kept.values()), "x", ">= 0.99", found),
        measured("overload-done", figures.median(done), "x", ">= 0.9", {"rounds": done}),
        measured("overload-bytes", max(found["queue_bytes"]) / CAP, "x", "<= 1", {"cap": CAP}),
    ]


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


def _rounds(stand: Stand, daemon: Daemon, models: Mapping[str, Model]) -> dict[str, Any]:
    sides = {name: _side(daemon, model) for name, model in models.items()}
    seconds = FULL_S if stand.is_full else ROUND_S
    peaks, rounds = [_peak(stand, daemon, sides)], []
    with _watched(daemon) as seen:
        for seed in range(ROUNDS):
            peak = max(peaks)
            options = {
                name: {
                    "seconds": seconds, "connections": 4, "depth": 512, "seed": 2 * seed + number,
                    "rate": TIMES[name] * peak, "deadline_us": DEADLINE_US[name],
                }
                for number, name in enumerate(sides)
            }  # fmt: skip
            scripts = {name: side.timed for name, side in sides.items()}
            rounds.append(_together(stand, daemon, scripts, options))
            peaks.append(_peak(stand, daemon, sides))
    # Each round between two peaks: what else the machine did is in both.
    beside = [max(pair) for pair in pairwise(peaks)]
    return {"rounds": rounds, "peaks": beside, "queue_bytes": seen}


def _peak(stand: Stand, daemon: Daemon, sides: Mapping[str, Side]) -> float:
    """Answers a second in a closed loop that always has something waiting."""
    options = {"seconds": PEAK_S, "connections": 4, "depth": 2}
    scripts = {name: side.plain for name, side in sides.items()}
    reports = _together(stand, daemon, scripts, dict.fromkeys(sides, options))
    return float(sum(report["per_s"] for report in reports.values()))


def _together(
    stand: Stand,
    daemon: Daemon,
    scripts: Mapping[str, Script],
    options: Mapping[str, dict[str, Any]],
) -> dict[str, dict[str, Any]]:
    """Generators side by side, one a class."""
    children = {
        name: subprocess.Popen(
            command_for(stand, daemon.socket, script, tolerance=TOLERANCE, **options[name]),
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
def _watched(daemon: Daemon) -> Iterator[list[int]]:
    """The bytes of the queue that holds most, now and then."""
    seen: list[int] = []
    ended = threading.Event()

    def watch() -> None:
        with daemon.client() as client:
            while not ended.wait(WATCH_S):
                seen.append(max(one["queue_bytes"] for one in client.status()["releases"]))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
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
