"""Named points at which a test can end the process, to show what a crash there leaves behind.

Does nothing unless EDGED_FAULT_AT names the point; then the process is gone at once, without
clean-up, as after SIGKILL. Never raises and never delays.
"""

from __future__ import annotations

import os

VARIABLE = "EDGED_FAULT_AT"
EXIT_STATUS = 137
"""What a shell reports for a process that SIGKILL ended."""


def fault(point: str) -> None:
    """End the process here if a test asked for it."""
    if os.environ.get(VARIABLE) == point:
        os._exit(EXIT_STATUS)
