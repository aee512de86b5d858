"""``benchmarks.gpu_check`` with parts that come to harm; run as a module, like itself."""

from __future__ import annotations

import os
import signal
import sys
import time

from benchmarks import gpu_check
from benchmarks.results import Row, measured


def good(rows: list[Row]) -> None:
    rows.append(measured("one", 1, "x", "<= 2", {}))


def crash(rows: list[Row]) -> None:
    rows.append(measured("one", 1, "x", "<= 2", {}))
    os.kill(os.getpid(), signal.SIGSEGV)


def hang(rows: list[Row]) -> None:
    time.sleep(600)


ROWS = [("one", "x", "<= 2"), ("two", "x", "")]
gpu_check.PARTS.update({work.__name__: (work, ROWS) for work in (good, crash, hang)})

if __name__ == "__main__":
    sys.exit(gpu_check.main())
