"""The one thread that loads: releases, and whatever else takes long before they can serve."""

from __future__ import annotations

import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor

from edged.system.cores import spread

log = logging.getLogger("edged.serving")

_LOADER_NICE = 10
"""A load may take every core for seconds; at nice 10 the threads that serve go first."""


def make_loader_thread() -> ThreadPoolExecutor:
    """One thread for good, whatever a load raises.

    Workers that serve were started by it, and the kernel ends them with it.
    """
    return ThreadPoolExecutor(1, "edged-loader", initializer=_lower_priority)


def _lower_priority() -> None:
    spread()
    # Linux keeps a nice value for each thread; elsewhere or without the right this changes nothing.
    try:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOADER_NICE)
    except OSError:
        log.debug("the loader keeps its normal priority")
