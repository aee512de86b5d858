"""The daemon with an outbox whose syncs only pretend: the control of the power cut.

``python -m tests.chaos.pretending run --config FILE``
"""

from __future__ import annotations

import sys

from edged.cli import main
from edged.outbox.disk import Disk


def nothing(*_: object) -> None:
    """Says that it synced."""


Disk.sync = nothing  # type: ignore[method-assign]
Disk.sync_names = nothing  # type: ignore[method-assign]

if __name__ == "__main__":
    sys.exit(main())
