"""What processes that we start get of our environment: no secrets, and the same packages.

Decides it for workers and for whoever looks at a package; starts nothing.
"""

from __future__ import annotations

import os
import sys

_KEPT = (
    *("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH"),
    *("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"),
)
"""Credentials may stand in the rest. A child sees the same GPUs under the same numbers as we do."""


def child_environment() -> dict[str, str]:
    """The environment of a child that runs this program's Python with ``-s``."""
    return {
        **{name: os.environ[name] for name in _KEPT if name in os.environ},
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry.startswith("/")),
        "ORT_DISABLE_TELEMETRY": "1",
    }
