"""What TensorRT's builder timed, kept from build to build; sealed, for native code reads it.

    engines/timings          the seal, then TensorRT's own bytes

It only saves time: one that does not hold is left out, and the next build writes it anew.
"""

from __future__ import annotations

import os
from pathlib import Path

from edged.engines.built import TIMING_CAP_BYTES
from edged.engines.folder import replace_file
from edged.engines.seal import SEAL_BYTES, Seal
from edged.runtimes.engine import sha256
from edged.store.bundle import read_small
from edged.store.slots import DIRECTORY_FLAGS

_NAME = "timings"


def read_timings(directory: Path, seal: Seal) -> bytes:
    """Those of earlier builds here; empty where there are none that hold."""
    try:
        fd = os.open(directory, DIRECTORY_FLAGS)
        try:
            data = read_small(fd, _NAME, TIMING_CAP_BYTES + SEAL_BYTES)
        finally:
            os.close(fd)
    except OSError:
        return b""
    timings = data[SEAL_BYTES:]
    return timings if seal.holds(_record(timings), data[:SEAL_BYTES]) else b""


def keep_timings(directory: Path, seal: Seal, timings: bytes) -> None:
    """Keep them for the next build; raises OSError."""
    if not timings:
        return
    fd = os.open(directory, DIRECTORY_FLAGS)
    try:
        replace_file(fd, _NAME, [seal.make(_record(timings)), timings])
    finally:
        os.close(fd)


def _record(timings: bytes) -> bytes:
    return b"timings " + sha256(timings).encode("ascii")
