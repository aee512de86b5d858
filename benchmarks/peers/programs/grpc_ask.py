"""Asks a server over gRPC with Triton's public client: PLACE ROW WANTED SECONDS CONNECTIONS.

PLACE is a target as gRPC writes it; ROW and WANTED are files of float32. Each connection is a
client and a thread of its own; prints one line of JSON, like http_load.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton


class Asker(threading.Thread):
    """A closed loop of one connection."""

    def __init__(
        self, place: str, row: np.ndarray, wanted: np.ndarray, from_s: float, end_s: float
    ) -> None:
        super().__init__()
        # Or all clients of a process would share one connection.
        self._client = triton.InferenceServerClient(
            place, channel_args=[("grpc.use_local_subchannel_pool", 1)]
        )
        self._input = triton.InferInput("x", list(row.shape), "FP32")
        self._input.set_data_from_numpy(row)
        self._output = triton.InferRequestedOutput("probabilities")
        self._wanted, self._from_s, self._end_s = wanted, from_s, end_s
        self.times_us: list[float] = []
        self.problem = ""

    def run(self) -> None:
        """Ask until the end; stop at the first problem."""
        try:
            self._ask()
        except Exception as exc:
            self.problem = f"{type(exc).__name__}: {exc}"
        self._client.close()

    def _ask(self) -> None:
        inputs, outputs, clock = [self._input], [self._output], time.perf_counter
        while (before := clock()) < self._end_s:
            answer = self._client.infer("tiny", inputs, outputs=outputs, client_timeout=10)
            taken = clock() - before
            if not np.array_equal(answer.as_numpy("probabilities").ravel(), self._wanted):
                self.problem = "a wrong answer"
                return
            if before >= self._from_s:
                self.times_us.append(taken * 1e6)


def main() -> int:
    """Ask, and say what came of it."""
    place, row_file, wanted_file, seconds, count = sys.argv[1:]
    row = np.frombuffer(Path(row_file).read_bytes(), np.float32).reshape(1, -1)
    wanted = np.frombuffer(Path(wanted_file).read_bytes(), np.float32)
    now, length = time.perf_counter(), float(seconds)
    askers = [
        Asker(place, row, wanted, now + 0.2 * length, now + 1.2 * length) for _ in range(int(count))
    ]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    if problems := [asker.problem for asker in askers if asker.problem]:
        print(problems[0], file=sys.stderr)
        return 1
    times = sorted(time_us for asker in askers for time_us in asker.times_us)
    if not times:
        print("nothing was answered", file=sys.stderr)
        return 1
    found = {
        "per_s": len(times) / length, "p50_us": times[len(times) // 2],
        "p99_us": times[len(times) * 99 // 100], "answered": len(times),
    }  # fmt: skip
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
