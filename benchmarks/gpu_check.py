"""``make gpu-check``: what only a machine with an NVIDIA GPU can show, and ``results-gpu.json``.

python -m benchmarks.gpu_check [--only PART ...] [--timeout SECONDS] [--out FILE]

Each part runs in a process of its own with a time limit: a library that crashes or hangs leaves its
own rows NOT MEASURED, with how it died, and no others. Without a GPU every row reads so, and the
status is 0; with one, the status is 1 when a measured bar does not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks import gpu_cuda, gpu_daemon, gpu_onnxruntime, gpu_tensorrt, results
from edged.runtimes.cuda import driver_problem

HERE = Path(__file__).resolve().parent
Promised = Sequence[tuple[str, str, str]]

GPU_TESTS = (
    *("-m", "gpu", "tests/device/test_nvidia.py"),
    *(f"tests/runtimes/test_{name}.py" for name in ("cuda", "onnxruntime_cuda")),
    *(f"tests/runtimes/test_onnxruntime_{name}.py" for name in ("device", "tensorrt")),
)
"""Named, so that no package is needed that only other tests import."""
_TESTS = ("gpu-tests", "failed", "== 0")


def gpu_tests(rows: list[results.Row], arguments: Sequence[str]) -> None:
    """The tests that need a GPU; one that does not find its library is skipped, and no success."""
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(command, cwd=HERE.parent, check=False, capture_output=True, text=True)
    print(done.stdout[-4000:], done.stderr[-1000:], flush=True)
    last = done.stdout.strip().rpartition("\n")[2]
    count = {word: int(number) for number, word in re.findall(r"(\d+) ([a-z]+)", last)}
    failed = count.get("failed", 0) + count.get("error", 0) + count.get("errors", 0)
    if done.returncode not in (0, 1) or not count.get("passed", 0) + failed:
        raise RuntimeError(f"pytest ended with {done.returncode}: {last or done.stderr[-200:]}")
    rows.append(results.measured(*_TESTS[:1], failed, *_TESTS[1:], {"said": last}))


PARTS: dict[str, tuple[Callable[[list[results.Row]], None], Promised]] = {
    "tests": (lambda rows: gpu_tests(rows, GPU_TESTS), [_TESTS]),
    "cuda-bindings": (gpu_cuda.through_bindings, gpu_cuda.rows_of("cuda-bindings")),
    "pycuda": (gpu_cuda.through_pycuda, gpu_cuda.rows_of("pycuda")),
    "onnxruntime-cuda": (gpu_onnxruntime.check, gpu_onnxruntime.ROWS),
    "onnxruntime-cuda-worker": (gpu_onnxruntime.in_a_worker, gpu_onnxruntime.WORKER_ROWS),
    "onnxruntime-cuda-daemon": (gpu_daemon.cuda, gpu_daemon.rows_of("ort-cuda")),
    "stories": (gpu_daemon.stories, gpu_daemon.STORIES),
    "tensorrt": (gpu_tensorrt.check, gpu_tensorrt.ROWS),
    "tensorrt-daemon": (gpu_daemon.tensorrt, gpu_daemon.rows_of("tensorrt")),
    "onnxruntime-tensorrt-daemon": (
        gpu_daemon.tensorrt_provider,
        gpu_daemon.rows_of("ort-tensorrt"),
    ),
}
"""What runs in one process, and the rows that come of it. A part adds its rows as it gets them."""


class Noted(list[results.Row]):
    """Rows that are on disk as soon as they are there, for when the process dies over the next."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def append(self, row: results.Row) -> None:
        """Add one."""
        super().append(row)
        self._path.write_text(json.dumps([asdict(row) for row in self]))

    def extend(self, rows: Iterable[results.Row]) -> None:
        """Add several."""
        for row in rows:
            self.append(row)


def measure(name: str, out: Path) -> list[results.Row]:
    """The rows of one part, in this process, whatever it raises; also in the file ``out``."""
    work, promised = PARTS[name]
    found = Noted(out)
    why = "not reached"
    try:
        work(found)
    except Exception as exc:
        traceback.print_exc()
        why = getattr(exc, "message", "") or f"{type(exc).__name__}: {exc}"
    found.extend(rest(promised, found, why))
    return found


def rest(promised: Promised, found: Sequence[results.Row], why: str) -> list[results.Row]:
    """The rows that a part did not come to."""
    have = {row.name for row in found}
    return unmeasured([row for row in promised if row[0] not in have], why)


def unmeasured(promised: Promised, why: str) -> list[results.Row]:
    """Rows without a value, for one reason."""
    return [results.not_measured(name, unit, bar, why) for name, unit, bar in promised]


def apart(name: str, timeout_s: float, module: str = "benchmarks.gpu_check") -> list[results.Row]:
    """The rows of one part, measured in a child that runs ``module``."""
    with tempfile.TemporaryDirectory(prefix="edged-gpu-") as folder:
        out = Path(folder) / "rows.json"
        command = [sys.executable, "-m", module, "--part", name, "--out", str(out)]
        try:
            done = subprocess.run(command, cwd=HERE.parent, timeout=timeout_s, check=False)
        except subprocess.TimeoutExpired:
            why = f"took longer than {timeout_s:.0f} s and was ended"
        else:
            why = f"its process {_death(done.returncode)}"
        rows = [results.Row(**row) for row in json.loads(out.read_text())] if out.exists() else []
        return rows + rest(PARTS[name][1], rows, why)


def _death(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"died of {signal.Signals(-status).name}"
    except ValueError:
        return f"died of signal {-status}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=[], metavar="PART", choices=list(PARTS))
    parser.add_argument("--part", choices=list(PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--timeout", type=float, default=180.0, help="of each part, seconds")
    parser.add_argument("--out", type=Path, default=HERE / "results-gpu.json")
    given = parser.parse_args(arguments)
    if given.part:
        measure(given.part, given.out)
        # Not through the interpreter's end: libraries unloaded in the wrong order crash there.
        sys.stdout.flush()
        os._exit(0)
    problem = driver_problem()
    if problem:
        print(f"No GPU to check here: {problem}\n")
    rows: list[results.Row] = []
    for name in given.only or PARTS:
        began = time.monotonic()
        found = unmeasured(PARTS[name][1], problem) if problem else apart(name, given.timeout)
        rows += found
        if not problem:
            print(f"{results.table(found)}\n({time.monotonic() - began:.0f} s)\n", flush=True)
    results.write(given.out, rows, keep=bool(given.only))
    print(results.table(rows))
    return 1 if any(row.holds is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
