"""``benchmarks.gpu_check`` with parts that come to harm; run as a module, like itself."""

from __future__ import annotations

import os
import signal
import sys
import time

from benchmarks import gpu_check
from benchmarks.results import Row, measured


def good() -> list[Row]:
    return [measured("one", 1, "x", "<= 2", {})]


def crash() -> list[Row]:
    os.kill(os.getpid(), signal.SIGSEGV)
    return []


def hang() -> list[Row]:
    time.sleep(600)
    return []


ROWS = [("one", "x", "<= 2"), ("two", "x", "")]
gpu_check.PARTS.update({work.__name__: (work, ROWS) for work in (good, crash, hang)})

if __name__ == "__main__":
    sys.exit(gpu_check.main())
