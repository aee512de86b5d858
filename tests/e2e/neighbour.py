"""A client that goes on asking its own model while others are in trouble, and checks each answer.

A process of its own, so that a test that polls does not wait with it for one interpreter lock.
"""

from __future__ import annotations

import contextlib
import json
import math
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edged.client import Client
from edged.errors import EdgedError

ROOT = Path(__file__).resolve().parents[2]
KNOWN = 2000
"""So many answers tell what is usual."""


class Neighbour:
    """Asks ``model`` (``y = 2 x``) without a pause.

    Args:
        socket: of the daemon.
        model: its name.
    """

    def __init__(self, socket: Path, model: str) -> None:
        self._command = [sys.executable, "-m", "tests.e2e.neighbour", str(socket), model]
        self.samples: list[tuple[float, float]] = []
        self.problems: list[str] = []

    def p99_s(self, since: float = 0.0, until: float = math.inf) -> float:
        """The 99th percentile of the answers to what was asked between two monotonic times."""
        sample = sorted(took for at, took in self.samples if since <= at < until)
        return sample[len(sample) * 99 // 100]

    @contextlib.contextmanager
    def asking(self) -> Iterator[Neighbour]:
        """Ask inside the block; a wrong or missing answer fails at its end, and then the times
        are known.
        """
        with subprocess.Popen(
            self._command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                assert process.stdout.readline() == "usual\n", "the neighbour was not answered"
                yield self
            finally:
                process.stdin.close()
                report = json.loads(process.stdout.read() or "null")
        assert report is not None, "the neighbour died"
        self.samples, self.problems = report["samples"], report["problems"]
        assert not self.problems, self.problems[:3]
        assert self.samples, "the neighbour was never answered"


def ask(socket: str, model: str) -> None:
    """Ask until standard input ends; then say when and how long, and what was wrong."""
    samples: list[tuple[float, float]] = []
    problems: list[str] = []
    x = np.zeros((1, 4), np.float32)
    with Client(socket, timeout=30) as client:
        while len(samples) % 64 or not select.select([sys.stdin], [], [], 0)[0]:
            x += 1
            started = time.monotonic()
            try:
                y = client.infer(model, x=x)["y"]
            except EdgedError as exc:
                problems.append(f"{type(exc).__name__}: {exc.message}")
                if len(problems) > 1000:
                    break
                continue
            samples.append((started, time.monotonic() - started))
            if not np.array_equal(y, x * 2):
                problems.append(f"{x} gave {y}")
            if len(samples) == KNOWN:
                print("usual", flush=True)
    print(json.dumps({"samples": samples, "problems": problems[:1000]}))


if __name__ == "__main__":
    ask(sys.argv[1], sys.argv[2])
