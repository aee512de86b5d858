"""Named points at which a test can end the process, or have a step fail.

Does nothing unless a variable of the environment names the point: with EDGED_FAULT_AT the process
is gone at once, without clean-up, as after SIGKILL; with EDGED_ERROR_AT the step meets an error of
the disk. Never delays.
"""

from __future__ import annotations

import errno
import os

VARIABLE = "EDGED_FAULT_AT"
ERROR_VARIABLE = "EDGED_ERROR_AT"
EXIT_STATUS = 137
"""What a shell reports for a process that SIGKILL ended."""


def fault(point: str) -> None:
    """End the process here, or fail, if a test asked for it.

    Raises:
        OSError: a test asked for it.
    """
    if os.environ.get(VARIABLE) == point:
        os._exit(EXIT_STATUS)
    if os.environ.get(ERROR_VARIABLE) == point:
        raise OSError(errno.EIO, os.strerror(errno.EIO), point)
