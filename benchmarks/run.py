"""``make bench``: every row, a table, and ``results.json``.

python -m benchmarks.run [--only NAME ...] [--scale X] [--full] [--strict]
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from benchmarks import (
    auto,
    broker,
    change,
    cnn,
    crowd,
    engine_swap,
    frame,
    gathered,
    generation,
    idle,
    isolation,
    many,
    native,
    openloop,
    outbox,
    overload,
    pipeline,
    priority,
    reload,
    results,
    shadow,
    stand,
    swap,
    way_back,
    web,
)

HERE = Path(__file__).resolve().parent
ROOMS: dict[str, tuple[Callable[[stand.Stand], list[results.Row]], list[tuple[str, str, str]]]] = {
    "native-1": (native.one_connection, [("native-1", "x", "<= 2.0")]),
    "native-16": (
        native.sixteen_connections,
        [
            ("native-16", "x", ">= 0.5"),
            ("batching-16", "x", ">= 1.5"),
            ("batching-1", "x", ">= 0.95"),
        ],
    ),
    "http": (
        web.small_tensors,
        [
            ("http-1", "us", "<= 60"),
            ("http-16", "/s", ">= 25000"),
            ("http-16-ids", "/s", ">= 25000"),
        ],
    ),
    "native-frame": (
        frame.frames,
        [(frame.NAMES[0], "us", "<= 80"), (frame.NAMES[1], "us", ""), (frame.NAMES[2], "us", "")],
    ),
    "cnn-16": (cnn.sixteen_connections, [("cnn-16", "x", ">= 0.9"), (cnn.SHARED, "x", "")]),
    "auto": (auto.choices, [("auto-cnn", "x", auto.BAR), ("auto-cnn-int8", "x", auto.BAR)]),
    "priority": (
        priority.priority,
        [
            ("priority", "runs", "<= 1.2"),
            ("priority-reserved", "x", "<= 2"),
            ("priority-floor", "runs", ""),
        ],
    ),
    "overload": (
        overload.overload,
        [
            ("overload-kept", "x", ">= 0.99"),
            ("overload-done", "x", ">= 0.9"),
            ("overload-bytes", "x", "<= 1"),
            ("overload-goodput", "x", ""),
            ("overload-floor", "x", ""),
        ],
    ),
    "open-loop": (openloop.poisson, [(name, "x", bar) for name, bar in openloop.BARS.items()]),
    "neighbours": (crowd.neighbours, [(name, "x", bar) for name, bar in crowd.BARS.items()]),
    "idle": (
        idle.idle,
        [
            ("start", "s", "<= 0.7"),
            ("idle-memory", "MB", "<= 90"),
            *((name, "MB", bar) for name, bar in idle.SERVING.items()),
            ("idle-cpu", "%", "<= 0.1"),
            ("idle-wakeups", "/s", "<= 2"),
        ],
    ),
    "swap": (swap.swap, [("swap-failed", "requests", "== 0"), ("swap-p99", "x", "<= 2")]),
    "engine-swap": (
        engine_swap.engine_swap,
        [("engine-swap-failed", "requests", "== 0"), ("engine-swap-p99", "x", "<= 2")],
    ),
    "reload": (reload.reload, [("reload", "ms", "<= 100"), ("reload-load", "ms", "<= 300")]),
    "change": (change.change, list(change.BARS)),
    "rollout-cost": (shadow.shadow, shadow.BARS),
    "way-back": (way_back.way_back, list(way_back.BARS)),
    "isolation": (isolation.isolation, [("isolation", "us", "<= 60")]),
    "pipeline": (pipeline.chain, [("pipeline", "x", "<= 2.2"), ("dispatch", "x", "<= 2.5")]),
    "many": (
        many.many,
        [("many-loads", "x", "<= 1.4"), ("many-wrong", "requests", "== 0")],
    ),
    "generation": (
        generation.texts,
        [
            (generation.RATE, "x", generation.RATE_BAR),
            (generation.FIRST, "x", generation.FIRST_BAR),
        ],
    ),
    "mqtt": (broker.binding, [(name, "x", bar) for name, bar in broker.ROWS.items()]),
    "gathered": (gathered.gathered, gathered.ROWS),
    "outbox": (outbox.outbox, outbox.ROWS),
}
"""What is measured together, and the rows that come of it: a failure leaves them not measured."""


def measure(bench: stand.Stand, name: str) -> list[results.Row]:
    """The rows of one room, whatever happens."""
    work, rows = ROOMS[name]
    try:
        return work(bench)
    except stand.BenchError as exc:
        why = str(exc)
    except Exception as exc:
        traceback.print_exc()
        why = f"{type(exc).__name__}: {exc}"
    return [results.not_measured(row, unit, bar, why) for row, unit, bar in rows]


def chosen(only: list[str]) -> list[str]:
    """Rooms by their name or that of one of their rows."""
    if not only:
        return list(ROOMS)
    names = {row[0]: room for room, (_, rows) in ROOMS.items() for row in rows}
    names |= {room: room for room in ROOMS}
    unknown = [name for name in only if name not in names]
    if unknown:
        raise SystemExit(f"no row {unknown[0]}; there are: {', '.join(names)}")
    return list(dict.fromkeys(names[name] for name in only))


def main() -> int:
    """Measure, print and write; with ``--strict`` the status says whether every bar holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME")
    parser.add_argument("--scale", type=float, default=1.0, help="of all durations")
    parser.add_argument("--full", action="store_true", help="five minutes of overload, not one")
    parser.add_argument("--load", type=Path, default=HERE.parent / "build/load")
    parser.add_argument("--keep", action="store_true", help="keep the folder with logs")
    parser.add_argument("--strict", action="store_true", help="fail when a bar does not hold")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="edged-bench-"))
    print(f"{stand.machine()}\n", flush=True)
    rows: list[results.Row] = []
    try:
        bench = stand.Stand(folder, arguments.load, arguments.scale, is_full=arguments.full)
        for name in chosen(arguments.only):
            began = time.monotonic()
            found = measure(bench, name)
            print(f"{results.table(found)}\n({time.monotonic() - began:.0f} s)\n", flush=True)
            rows += found
    finally:
        if arguments.keep:
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    results.write(HERE / "results.json", rows, keep=bool(arguments.only))
    print(results.table(rows))
    return 1 if arguments.strict and any(row.holds is not True for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
