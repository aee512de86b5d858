"""A local application: pictures in, numbers out, over the Unix socket with ``edged.Client``.

Answers on one JSON line: how many rows it asked for, how many agreed, and how long a call took.

    python local_app.py SOCKET REFERENCE.npz
"""

from __future__ import annotations

import io
import json
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

import edged


def main() -> None:
    """Ask for every row once, one call at a time, pinned to the release of the reference."""
    socket, path = sys.argv[1:]
    with np.load(Path(path)) as reference:
        whole, ends = reference["payloads"].tobytes(), np.cumsum(reference["lengths"])
        expected = reference["probabilities"]
    payloads = [whole[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    labels = worst = 0.0
    times_us = []
    with edged.Client(socket) as client:
        for payload, row in zip(payloads, expected, strict=True):
            pixels = np.asarray(Image.open(io.BytesIO(payload)), dtype=np.float32).reshape(1, 64)
            started = time.perf_counter_ns()
            result = client.infer("digits", release=1, pixels=pixels)
            times_us.append((time.perf_counter_ns() - started) / 1000)
            got = next(array for array in result.values() if array.ndim == 2)[0]
            labels += int(got.argmax()) == int(row.argmax())
            worst = max(worst, float(np.abs(got - row).max()))
    times_us.sort()
    answer = {
        "asked": len(payloads),
        "labels_equal": int(labels),
        "worst": worst,
        "p50_us": times_us[len(times_us) // 2],
        "p99_us": times_us[len(times_us) * 99 // 100],
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
