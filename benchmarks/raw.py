"""ONNX Runtime alone, in this process: what a model costs before anybody serves it."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from benchmarks import figures
from benchmarks.models import Arrays


def open_session(path: Path, threads: int) -> Any:
    """A session set up as the daemon sets up its own."""
    import onnxruntime  # noqa: PLC0415

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run_times_us(session: Any, inputs: Arrays, seconds: float) -> list[float]:
    """Time of each call, one after the other."""
    run, clock = session.run, time.perf_counter_ns
    times: list[float] = []
    until = clock() + int(seconds * 1e9)
    while (before := clock()) < until:
        run(None, inputs)
        times.append((clock() - before) / 1000)
    return times


def calls_per_s(session: Any, inputs: Arrays, seconds: float, threads: int = 1) -> float:
    """Calls a second of so many threads at once."""
    counts = [0] * threads
    until = time.monotonic() + seconds

    def work(index: int) -> None:
        run = session.run
        while time.monotonic() < until:
            run(None, inputs)
            counts[index] += 1

    began = time.monotonic()
    workers = [threading.Thread(target=work, args=(index,)) for index in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts) / (time.monotonic() - began)


def p50_us(session: Any, inputs: Arrays, seconds: float) -> float:
    """Median time of a call."""
    return figures.median(run_times_us(session, inputs, seconds))
