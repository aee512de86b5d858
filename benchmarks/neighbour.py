"""One who asks models in turn, in a process of its own: what a change costs whom it leaves alone.

Not a thread of whoever makes the change: reading the daemon's status in one thread would keep the
other from noticing its answer.

python -m benchmarks.neighbour SOCKET MODEL...   says "ready", asks until its input ends, then says
in JSON when every answer came and how long it took.
"""

from __future__ import annotations

import contextlib
import gc
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.stand import ENVIRONMENT, BenchError
from edged.client import Client
from edged.errors import EdgedError

PAUSE_S = 0.001
"""Between an answer and the next request."""


class Neighbour:
    """What one has seen; filled when it has ended."""

    def __init__(self) -> None:
        self.answers: list[tuple[float, float]] = []
        """When each came (``time.perf_counter``) and how many milliseconds it took."""
        self.failed = 0

    def p99_ms(self, begin: float, end: float) -> float:
        """Of the answers that came in this time."""
        times = sorted(ms for at, ms in self.answers if begin <= at < end)
        if not times:
            raise BenchError("nothing was answered meanwhile")
        return times[int(len(times) * 0.99)]


@contextlib.contextmanager
def neighbour(socket: Path, models: Sequence[str]) -> Iterator[Neighbour]:
    """Ask models with one input ``x`` of float32[1,16], from a process of its own."""
    seen = Neighbour()
    child = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.neighbour", str(socket), *models],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT,
    )  # fmt: skip
    try:
        assert child.stdout is not None
        if not child.stdout.readline():
            raise BenchError("the neighbour did not start")
        yield seen
        out, _ = child.communicate(timeout=60)
        told = json.loads(out)
        seen.answers, seen.failed = [tuple(one) for one in told["answers"]], told["failed"]
    finally:
        child.kill()
        child.wait()


def main(socket: str, models: Sequence[str]) -> None:
    """Ask until the input ends."""
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    x = np.ones((1, 16), np.float32)
    answers, failed, at = [], 0, 0
    gc.disable()
    with Client(socket) as client:
        client.infer(models[0], {"x": x})
        print("ready", flush=True)
        while not over.is_set():
            time.sleep(PAUSE_S)
            at = (at + 1) % len(models)
            began = time.perf_counter()
            try:
                client.infer(models[at], {"x": x})
            except EdgedError:
                failed += 1
            now = time.perf_counter()
            answers.append((now, (now - began) * 1000))
    json.dump({"answers": answers, "failed": failed}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
