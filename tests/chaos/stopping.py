"""The daemon, waiting at each of its fault points until the power may be cut there.

``python -m tests.chaos.stopping run --config FILE``, with the two pipes in STOPS_AT and STOPS_UNTIL.
With PRETENDS its syncs do nothing: the control of the power cut.
"""

from __future__ import annotations

import os
import sys

from edged import faults

STOPS_AT, STOPS_UNTIL, PRETENDS = "EDGED_STOPS_AT", "EDGED_STOPS_UNTIL", "EDGED_PRETENDS"


def nothing(_: int) -> None:
    """Says that it synced."""


def install() -> None:
    """Before anything imports a fault point."""
    said = os.open(os.environ[STOPS_AT], os.O_WRONLY | os.O_CLOEXEC)
    heard = os.open(os.environ[STOPS_UNTIL], os.O_RDONLY | os.O_CLOEXEC)

    def fault(point: str) -> None:
        os.write(said, point.encode() + b"\n")
        os.read(heard, 1)

    faults.fault = fault
    if os.environ.get(PRETENDS):
        os.fsync = os.fdatasync = nothing


if __name__ == "__main__":
    install()
    from edged.cli import main

    sys.exit(main())
