"""ONNX Runtime's CUDA provider through our runtime: where nodes run, their numbers, their times."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np

from benchmarks import figures
from benchmarks.models import mobilenet
from benchmarks.results import Row, measured
from edged.runtimes.base import Artefact, Session
from edged.runtimes.onnxruntime import OnnxRuntime
from edged.runtimes.onnxruntime_cuda import OnnxCudaRuntime
from edged.tensors import Array, TensorSpec
from edged.workers.isolation import WorkerCaps, WorkerRuntime

BATCHES = (1, 2, 4, 8, 16, 32)
THREADS = (1, 2, 4, 8)
PARITY = 1e-3
"""Relative to the largest output: float32 sums in another order, through fifty layers."""
MOST_RUNS, SECONDS = 200, 1.5
_MS = "ms"
ROWS = [
    ("ort-cuda-placement", "nodes on the CPU", "== 0"),
    ("ort-cuda-parity", "relative", f"<= {PARITY}"),
    *((f"ort-cuda-latency-{batch}", _MS, "") for batch in BATCHES),
    *((f"ort-cuda-streams-{threads}", "runs/s", "") for threads in THREADS),
    ("ort-cuda-streams-wrong", "runs", "== 0"),
]
WORKER_ROWS = [("ort-cuda-worker-parity", "relative", f"<= {PARITY}"), ("ort-cuda-worker", _MS, "")]


def artefact() -> Artefact:
    """The network as a bundle would hand it over."""
    return Artefact(
        "cnn",
        mobilenet(),
        (TensorSpec("x", "float32", ("batch", 3, 224, 224)),),
        (TensorSpec("y", "float32", ("batch", 1000)),),
    )


def images(count: int, seed: int = 0) -> dict[str, Array]:
    """Inputs for ``count`` rows."""
    rng = np.random.default_rng(seed)
    return {"x": rng.standard_normal((count, 3, 224, 224), dtype=np.float32)}


def difference(got: Array, wanted: Array) -> float:
    """The largest difference, relative to the largest wanted value; nan and infinity stay so."""
    return float(np.abs(got - wanted).max() / max(float(np.abs(wanted).max()), 1e-12))


def times_ms(session: Session, inputs: dict[str, Array]) -> list[float]:
    """Times of runs, after ones that warm up."""
    for _ in range(5):
        session.run(inputs)
    taken: list[float] = []
    until = time.monotonic() + SECONDS
    while len(taken) < MOST_RUNS and time.monotonic() < until:
        began = time.perf_counter()
        session.run(inputs)
        taken.append((time.perf_counter() - began) * 1e3)
    return taken


def check(rows: list[Row]) -> None:
    """Load, compare, and time."""
    began = time.monotonic()
    session = OnnxCudaRuntime(threads=1).load(artefact())
    load_s = time.monotonic() - began
    cpu = OnnxRuntime(threads=0).load(artefact())
    gpu_nodes, cpu_nodes = session.placed or ({}, {})
    raw = {"load_s": load_s, "gpu": dict(gpu_nodes), "cpu": dict(cpu_nodes), **versions()}
    rows.append(measured("ort-cuda-placement", sum(cpu_nodes.values()), *ROWS[0][1:], raw))
    parity = {b: difference(session.run(images(b))["y"], cpu.run(images(b))["y"]) for b in BATCHES}
    rows.append(
        measured("ort-cuda-parity", max(parity.values()), *ROWS[1][1:], {"by_batch": parity})
    )
    for batch in BATCHES:
        taken = times_ms(session, images(batch))
        details: dict[str, Any] = {"p99": figures.percentile(taken, 0.99), "runs": len(taken)}
        if batch in (1, 8):
            details["cpu_ms"] = figures.median(times_ms(cpu, images(batch)))
        p50 = figures.median(taken)
        details["items_per_s"] = batch / p50 * 1e3
        rows.append(measured(f"ort-cuda-latency-{batch}", p50, _MS, "", details))
    rows.extend(streams(session))


def streams(session: Session) -> list[Row]:
    """Several threads on one session, each with its own input and its own answer to hold it to."""
    rows: list[Row] = []
    inputs = [images(1, seed) for seed in range(max(THREADS))]
    wanted = [session.run(one)["y"] for one in inputs]
    wrong = [0]
    for threads in THREADS:
        counts = [0] * threads
        until = time.monotonic() + SECONDS

        def work(index: int, counts: list[int] = counts, until: float = until) -> None:
            while time.monotonic() < until:
                got = session.run(inputs[index])["y"]
                wrong[0] += difference(got, wanted[index]) > PARITY
                counts[index] += 1

        began = time.monotonic()
        workers = [threading.Thread(target=work, args=(index,)) for index in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        rate = sum(counts) / (time.monotonic() - began)
        rows.append(measured(f"ort-cuda-streams-{threads}", rate, "runs/s", "", {"runs": counts}))
    return [*rows, measured("ort-cuda-streams-wrong", wrong[0], "runs", "== 0", {})]


def in_a_worker(rows: list[Row]) -> None:
    """As a trial does it: another process, of the lowest priority, with a cap on its memory."""
    caps = WorkerCaps(threads=1, memory_bytes=8 << 30, load_timeout_s=120, nice=19)
    session = WorkerRuntime("onnxruntime-cuda", caps).load(artefact())
    wanted = OnnxRuntime(threads=0).load(artefact()).run(images(2))["y"]
    parity = difference(session.run(images(2))["y"], wanted)
    taken = times_ms(session, images(1))
    session.close()
    rows.extend(
        [
            measured("ort-cuda-worker-parity", parity, *WORKER_ROWS[0][1:], {}),
            measured("ort-cuda-worker", figures.median(taken), _MS, "", {"runs": len(taken)}),
        ]
    )


def versions() -> dict[str, str]:
    """Of the packages that took part."""
    import onnxruntime  # noqa: PLC0415 - the runtime imports it first, with its telemetry off

    return {"onnxruntime": onnxruntime.__version__, "numpy": np.__version__}
