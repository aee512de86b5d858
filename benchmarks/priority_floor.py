"""What the bar of ``priority`` is held against: two models on threads, and nothing between.

One process runs ONNX Runtime on as many threads as there are cores. A thread takes a run of the
higher class wherever one waits, and one of the flood otherwise. Nobody sends, reads, checks,
refuses or answers anything, so it does less than any server could.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections import deque
from typing import Any, NamedTuple

from benchmarks import raw
from benchmarks.models import Model
from edged.system.timeslice import be_prompt


class Bare(NamedTuple):
    """p99 of the higher class without and in the flood, and a run of the flood in it."""

    idle_p99_us: float
    flooded_p99_us: float
    flood_run_us: float


def measure(guard: Model, flood: Model, rate: float, seconds: float, seed: int) -> Bare:
    """Both, one after the other; ``rate`` is of the higher class, a second."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0005)  # as the daemon
    try:
        idle, _ = _serve(guard, flood, rate, seconds, seed, is_flooded=False)
        busy, run_us = _serve(guard, flood, rate, seconds, seed, is_flooded=True)
    finally:
        sys.setswitchinterval(before)
    return Bare(_p99(idle), _p99(busy), run_us)


def _p99(times: list[float]) -> float:
    return sorted(times)[int(len(times) * 0.99)]


def _serve(
    guard: Model, flood: Model, rate: float, seconds: float, seed: int, *, is_flooded: bool
) -> tuple[list[float], float]:
    sessions = {name: raw.open_session(m.onnx, 1) for name, m in (("g", guard), ("f", flood))}
    asked = {"g": guard.request(0), "f": flood.request(0)}
    waiting: deque[float] = deque()
    there = threading.Semaphore(0)
    over = threading.Event()
    times: list[float] = []
    flood_us: list[float] = []

    def work() -> None:
        run: dict[str, Any] = {name: session.run for name, session in sessions.items()}
        while not over.is_set():
            if there.acquire(blocking=not is_flooded):
                if over.is_set():
                    return
                due = waiting.popleft()
                run["g"](None, asked["g"])
                times.append((time.perf_counter() - due) * 1e6)
            else:
                began = time.perf_counter()
                run["f"](None, asked["f"])
                flood_us.append((time.perf_counter() - began) * 1e6)

    def ask() -> None:
        be_prompt()
        chance, due = random.Random(seed), time.perf_counter()
        until = due + seconds
        while (due := due + chance.expovariate(rate)) < until:
            time.sleep(max(0.0, due - time.perf_counter()))
            waiting.append(due)
            there.release()
        over.set()
        there.release(len(workers))

    workers = [threading.Thread(target=work) for _ in os.sched_getaffinity(0)]
    asker = threading.Thread(target=ask)
    for thread in (*workers, asker):
        thread.start()
    for thread in (*workers, asker):
        thread.join()
    return times, sum(flood_us) / max(1, len(flood_us))
