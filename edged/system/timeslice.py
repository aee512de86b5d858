"""The kernel's time slice of the thread that answers: short, so that it is woken at once.

Where runs keep every core busy, a thread that wakes waits until the slice of whoever runs is over:
1.4 to 3 milliseconds, as long as a run of a small network. Since Linux 6.12 a thread may ask for a
shorter slice; it then goes first when it wakes, for as long as it takes no more than its share,
which stays the same. It needs no right. Older kernels take the wish and do nothing with it.
Source: sched_setattr(2); kernel/sched/fair.c, ``sched_attr.sched_runtime`` of fair threads.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import struct
import threading

log = logging.getLogger("edged")

_SLICE_NS = 100_000
"""The shortest there is."""
_CALL = {"x86_64": 314, "aarch64": 274}
"""The number of ``sched_setattr``, which the C library has no name for."""
_ATTRIBUTES = struct.Struct("=IIQiIQQQ")
"""struct sched_attr: its size, policy, flags, nice, priority; runtime, deadline, period."""
_RESET_ON_FORK = 1
"""Threads that this one starts, and a runtime's with them, get the usual slice."""


def be_prompt() -> None:
    """Have the calling thread woken at once where cores are busy; does nothing where it cannot."""
    call = _CALL.get(platform.machine())
    if call is None:
        return
    # A policy that somebody chose (real time, idle) and its priority are left as they are.
    if os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK not in (os.SCHED_OTHER, os.SCHED_BATCH):
        return
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes  # noqa: PLC0415 - the one call that Python has no name for

        nice = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        wanted = _ATTRIBUTES.pack(
            _ATTRIBUTES.size, os.SCHED_OTHER, _RESET_ON_FORK, nice, 0, _SLICE_NS, 0, 0
        )
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syscall(ctypes.c_long(call), ctypes.c_long(0), wanted, ctypes.c_long(0)):
            why = os.strerror(ctypes.get_errno())
            log.debug("the event loop keeps its usual time slice: %s", why)
