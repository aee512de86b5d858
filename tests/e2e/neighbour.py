"""A client that goes on asking its own model while others are in trouble, and checks each answer."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edged.client import Client
from edged.errors import EdgedError


class Neighbour:
    """Asks ``model`` (``y = 2 x``) without a pause, in a thread of its own.

    Args:
        socket: of the daemon.
        model: its name.
    """

    def __init__(self, socket: Path, model: str) -> None:
        self._socket = socket
        self._model = model
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="neighbour")
        self.latencies_s: list[float] = []
        self.problems: list[str] = []

    def _work(self) -> None:
        x = np.zeros((1, 4), np.float32)
        with Client(self._socket, timeout=30) as client:
            while not self._stop.is_set():
                x += 1
                started = time.perf_counter()
                try:
                    y = client.infer(self._model, x=x)["y"]
                except EdgedError as exc:
                    self.problems.append(f"{type(exc).__name__}: {exc.message}")
                    continue
                self.latencies_s.append(time.perf_counter() - started)
                if not np.array_equal(y, x * 2):
                    self.problems.append(f"{x} gave {y}")

    def p99_s(self, start: int = 0) -> float:
        """The 99th percentile of what was asked since the ``start``-th answer."""
        sample = sorted(self.latencies_s[start:])
        return sample[len(sample) * 99 // 100]

    @contextlib.contextmanager
    def asking(self) -> Iterator[Neighbour]:
        """Ask inside the block; a wrong or missing answer fails at its end."""
        self._thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            self._thread.join(60)
        assert not self.problems, self.problems[:3]
        assert self.latencies_s, "the neighbour was never answered"
