"""``make bench-convert``: what a conversion costs beside the framework's own export.

python -m benchmarks.convert [--only NAME ...] [--strict]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import results
from benchmarks.results import Row, measured, not_measured

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
GATE = ("proving rows and numbers", "proving it in an empty environment")
PICTURES = 16
"""Samples of the network: as many as travel with a bundle."""
HELP = ("convert-help", "ms", "<= 150")
ROWS = (
    ("convert-resnet", "s", "<= 25"),
    ("convert-gate", "%", "<= 50"),
    ("convert-memory", "x", "<= 2"),
)
INT8 = ("convert-int8", "x", ">= 3")
RUNS = 31
"""Of each model, in turns: what else the machine does then slows both."""
_INT8_CHILD = """
import json, statistics, sys, time, zipfile
from pathlib import Path
import numpy as np
from converters import Recipe, convert
from converters.session import open_session
folder, runs = Path(sys.argv[1]), int(sys.argv[2])
pictures = str(folder / "pictures.npy")
# The weights are random, so labels hang on a hair: what is lost is told, and nothing is refused.
recipe = Recipe(
    source=str(folder / "plain.onnx"), samples=pictures, calibration=pictures, name="net",
    release=1, precision="int8", max_accuracy_drop=1.0,
)
report = convert(recipe, folder / "net.edgb", empty_env="off")
with zipfile.ZipFile(report.path) as archive:
    small = open_session(archive.read("model.onnx"))
models = {"float32": open_session((folder / "plain.onnx").read_bytes()), "int8": small}
rows = {report.manifest.inputs[0].name: np.load(pictures)[:1]}
times = {name: [] for name in models}
for turn in range(runs + 3):
    for name, run in models.items():
        began = time.perf_counter()
        run(rows)
        if turn >= 3:
            times[name].append((time.perf_counter() - began) * 1e3)
print(json.dumps({
    "ms": {name: [round(t, 3) for t in taken] for name, taken in times.items()},
    "steps": [[step.name, step.seconds, step.peak_bytes] for step in report.steps],
    "cost": report.manifest.parity["int8"],
}))
"""
_CHILD = """
import json, sys, resource
from pathlib import Path
from converters import Recipe, convert
from converters.report.gather import gather_evidence
folder = Path(sys.argv[1])
pictures = str(folder / "pictures.npy")
recipe = Recipe(source="benchmarks.resnet:build", samples=pictures, name="net", release=1)
report = convert(recipe, folder / "net.edgb", trust=True)
evidence = gather_evidence(report.path, report)
print(json.dumps({
    "steps": [[step.name, step.seconds, step.peak_bytes] for step in report.steps],
    "checks": [[check.name, check.verdict, check.seconds] for check in report.checks],
    "own_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    "children_bytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
}))
"""


def run(*words: str) -> str:
    """The output of a Python process of its own, started at the repository's root."""
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=900,
        check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr else "failed")
    return done.stdout


def measure_help() -> list[Row]:
    """The wall time of ``--help``, the median of fifteen."""
    times = []
    for _ in range(15):
        began = time.perf_counter()
        run("-m", "converters.cli", "--help")
        times.append((time.perf_counter() - began) * 1e3)
    bare = []
    for _ in range(15):
        began = time.perf_counter()
        run("-c", "pass")
        bare.append((time.perf_counter() - began) * 1e3)
    raw = {"ms": [round(t, 1) for t in times], "python_alone_ms": round(statistics.median(bare), 1)}
    return [measured(HELP[0], statistics.median(times), HELP[1], HELP[2], raw)]


def measure_resnet() -> list[Row]:
    """A ResNet-18-shaped network, converted, proven and packed, beside PyTorch's own export."""
    if importlib.util.find_spec("torch") is None:
        return [not_measured(*row, why="torch is not installed") for row in ROWS]
    with tempfile.TemporaryDirectory(prefix="edged-bench-") as name:
        folder = Path(name)
        pictures = np.random.default_rng(0).normal(size=(PICTURES, 3, 224, 224)).astype("f4")
        np.save(folder / "pictures.npy", pictures)
        plain = json.loads(
            run("-m", "benchmarks.plain_export", str(folder / "plain.onnx")).splitlines()[-1]
        )
        converted = json.loads(run("-c", _CHILD, str(folder)).splitlines()[-1])
    return _rows(plain, converted)


def measure_int8() -> list[Row]:
    """The same network in float32 and int8, one thread, one picture at a time."""
    if importlib.util.find_spec("torch") is None:
        return [not_measured(*INT8, why="torch is not installed")]
    with tempfile.TemporaryDirectory(prefix="edged-bench-") as name:
        folder = Path(name)
        pictures = np.random.default_rng(0).normal(size=(PICTURES, 3, 224, 224)).astype("f4")
        np.save(folder / "pictures.npy", pictures)
        run("-m", "benchmarks.plain_export", str(folder / "plain.onnx"))
        found = json.loads(run("-c", _INT8_CHILD, str(folder), str(RUNS)).splitlines()[-1])
    return [_int8_row(found, has_vnni())]


def _int8_row(found: dict[str, Any], vnni: bool) -> Row:
    medians = {name: round(statistics.median(taken), 3) for name, taken in found["ms"].items()}
    load = [round(number, 1) for number in os.getloadavg()]
    raw = {"median_ms": medians, "vnni": vnni, "load_average": load, **found}
    name, unit, bar = INT8
    return measured(name, medians["float32"] / medians["int8"], unit, bar, raw)


def has_vnni(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this processor has the int8 dot products that the bar was set with."""
    try:
        return "vnni" in cpuinfo.read_text("utf-8", "replace")
    except OSError:
        return False


def _rows(plain: dict[str, Any], converted: dict[str, Any]) -> list[Row]:
    seconds = {name: spent for name, spent, _ in converted["steps"]}
    total = sum(seconds.values())
    gate = sum(seconds[name] for name in GATE)
    # What the converter holds beside the framework's process counts too.
    memory = max(converted["children_bytes"], converted["own_bytes"])
    load = [round(number, 1) for number in os.getloadavg()]
    raw = {"pictures": PICTURES, "load_average": load, "plain": plain, **converted}
    values = (total, 100 * gate / plain["export_s"], memory / plain["peak_bytes"])
    return [
        measured(name, value, unit, bar, raw if index == 0 else {})
        for index, ((name, unit, bar), value) in enumerate(zip(ROWS, values, strict=True))
    ]


ROOMS = {
    "convert-help": measure_help,
    "convert-resnet": measure_resnet,
    "convert-int8": measure_int8,
}


def main() -> int:
    """Measure, print and write; with ``--strict`` the status says whether every bar holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=list(ROOMS), choices=ROOMS, metavar="NAME")
    parser.add_argument("--strict", action="store_true", help="fail when a bar does not hold")
    parser.add_argument("--out", type=Path, default=HERE / "results-convert.json")
    arguments = parser.parse_args()
    rows = [row for name in arguments.only for row in ROOMS[name]()]
    print(results.table(rows))
    results.write(arguments.out, rows, keep=True)
    return 1 if arguments.strict and any(row.holds is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
