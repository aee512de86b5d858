"""Our CUDA interface against a real driver: what comes back is what went in, and how fast."""

from __future__ import annotations

import time
from dataclasses import asdict

import numpy as np

from benchmarks import figures
from benchmarks.results import Row, measured
from edged.runtimes.cuda import Cuda
from edged.runtimes.cuda_bindings import CudaBindings
from edged.runtimes.cuda_pycuda import PyCuda

SIZE = 64 << 20
"""More than any cache, little enough for an 8 GB board."""
ROUNDS = 10


def rows_of(name: str) -> list[tuple[str, str, str]]:
    """The rows of one backend."""
    return [
        (f"{name}-copies", "wrong bytes", "== 0"),
        (f"{name}-pinned", "GB/s", ""),
        (f"{name}-small", "us", ""),
        (f"{name}-leak", "bytes", "== 0"),
    ]


def through_bindings(rows: list[Row]) -> None:
    """With cuda-bindings."""
    rows.extend(check(CudaBindings()))


def through_pycuda(rows: list[Row]) -> None:
    """With PyCUDA."""
    rows.extend(check(PyCuda()))


def check(cuda: Cuda) -> list[Row]:
    """Every call of the interface on the real device."""
    cuda.use()
    device = asdict(cuda.describe())
    stream, buffer = cuda.stream(), cuda.alloc(SIZE)
    source, target = cuda.pin(SIZE), cuda.pin(SIZE)
    source.array[:] = np.random.default_rng(1).integers(0, 256, SIZE, dtype="u1")
    target.array[:] = 0
    start, middle, end = cuda.event(), cuda.event(), cuda.event()
    into, out = [], []
    for _ in range(ROUNDS):
        cuda.record(start, stream)
        cuda.copy_in(buffer, source.array, stream)
        cuda.record(middle, stream)
        cuda.copy_out(target.array, buffer, stream)
        cuda.record(end, stream)
        cuda.wait(end)
        into.append(cuda.elapsed_ms(start, middle))
        out.append(cuda.elapsed_ms(middle, end))
    wrong = int(np.count_nonzero(source.array != target.array))
    pageable = np.empty(SIZE, "u1")
    cuda.copy_out(pageable, buffer, stream)
    cuda.sync(stream)
    wrong += int(np.count_nonzero(source.array != pageable))
    small = _small_round_trip_us(cuda)
    mapped = bool(source.pointer)
    for event in (start, middle, end):
        cuda.close_event(event)
    cuda.unpin(source)
    cuda.unpin(target)
    cuda.free(buffer)
    cuda.close_stream(stream)
    raw = {"device": device, "bytes": SIZE, "rounds": ROUNDS, "is_mapped": mapped}
    name = cuda.name
    speeds = {
        "in_GB_s": SIZE / figures.median(into) / 1e6,
        "out_GB_s": SIZE / figures.median(out) / 1e6,
    }
    tail = {"p99": figures.percentile(small, 0.99)}
    return [
        measured(f"{name}-copies", wrong, "wrong bytes", "== 0", raw),
        measured(f"{name}-pinned", min(speeds.values()), "GB/s", "", {**speeds, "in_ms": into}),
        measured(f"{name}-small", figures.median(small), "us", "", tail),
        measured(f"{name}-leak", _leak_bytes(cuda), "bytes", "== 0", {"cycles": ROUNDS}),
    ]


def _leak_bytes(cuda: Cuda) -> int:
    """What is missing on the device after everything was taken and given back a few times."""

    def cycle() -> None:
        stream, event, buffer, pinned = (
            cuda.stream(),
            cuda.event(),
            cuda.alloc(SIZE),
            cuda.pin(SIZE),
        )
        cuda.copy_in(buffer, pinned.array, stream)
        cuda.record(event, stream)
        cuda.sync(stream)
        cuda.unpin(pinned)
        cuda.free(buffer)
        cuda.close_event(event)
        cuda.close_stream(stream)

    cycle()  # what the driver keeps for itself after the first of each
    before = cuda.memory()[0]
    for _ in range(ROUNDS):
        cycle()
    return max(0, before - cuda.memory()[0])


def _small_round_trip_us(cuda: Cuda, count: int = 300) -> list[float]:
    """Four kilobytes there and back and waited for: what the calls themselves cost."""
    stream, buffer, pinned = cuda.stream(), cuda.alloc(4096), cuda.pin(4096)
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        cuda.copy_in(buffer, pinned.array, stream)
        cuda.copy_out(pinned.array, buffer, stream)
        cuda.sync(stream)
        taken.append((time.perf_counter() - began) * 1e6)
    cuda.unpin(pinned)
    cuda.free(buffer)
    cuda.close_stream(stream)
    return taken
