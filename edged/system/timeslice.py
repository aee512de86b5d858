"""The kernel's time slice and weight of the threads that must not wait behind runs.

The thread that answers is woken at once, and the runs of the highest class go before the others'.

Where runs keep every core busy, a thread that wakes waits until the slice of whoever runs is over:
1.4 to 3 milliseconds, as long as a run of a small network. Since Linux 6.12 a thread may ask for a
shorter slice; it then goes first when it wakes, for as long as it takes no more than its share,
which stays the same. It needs no right. Older kernels take the wish and do nothing with it.

That is not all: a thread that has just run has had more than its share, and when it is woken again
before the others had theirs it waits for the next tick of the clock, 4 milliseconds at most. It
wakes two thousand times a second in a flood, and one time in fifty is such a one. With more weight
what it took counts for less, and soon. That takes a right, and is done where there is one.

A run of the highest class has a slot, yet other runs may sit on its core: as many slots as cores,
and the loop and its clients on the same ones. Its threads get nearly the loop's weight.
Source: sched_setattr(2); kernel/sched/fair.c, ``sched_attr.sched_runtime`` of fair threads;
getrlimit(2), RLIMIT_NICE.
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
_NICE = -10
"""Nine times the usual weight. Of a daemon that somebody made nice or the opposite, it is kept."""
_URGENT = -9
"""Of a run that goes before others: one less than the loop has, which sends its answer."""
_CALL = {"x86_64": 314, "aarch64": 274}
"""The number of ``sched_setattr``, which the C library has no name for."""
_ATTRIBUTES = struct.Struct("=IIQiIQQQ")
"""struct sched_attr: its size, policy, flags, nice, priority; runtime, deadline, period."""
_RESET_ON_FORK = 1
"""Threads that this one starts, and a runtime's with them, get the usual slice."""


_usual: int | None = None
"""How nice this process is, once a thread of it is less so."""


def usual_nice() -> int:
    """How nice this process is, its prompt thread apart."""
    return os.getpriority(os.PRIO_PROCESS, os.getpid()) if _usual is None else _usual


def favour(thread: int, *, is_urgent: bool) -> None:
    """Give a thread of runs more weight than the others', or the usual one; if the loop has more.

    Args:
        thread: its native identifier, of this process and still alive.
        is_urgent: whether its runs go before others.
    """
    if _usual is not None:
        with contextlib.suppress(OSError):  # the right was taken away since
            os.setpriority(os.PRIO_PROCESS, thread, _URGENT if is_urgent else _usual)


def be_prompt() -> None:
    """Have the calling thread woken at once where cores are busy; does nothing where it cannot."""
    global _usual  # noqa: PLW0603 - a process has one
    call = _CALL.get(platform.machine())
    if call is None:
        return
    # A policy that somebody chose (real time, idle) and its priority are left as they are.
    if os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK not in (os.SCHED_OTHER, os.SCHED_BATCH):
        return
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes  # noqa: PLC0415 - the one call that Python has no name for

        nice = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        libc = ctypes.CDLL(None, use_errno=True)
        for one in (nice or _NICE, nice):  # the second where there is no right to the first
            wanted = _ATTRIBUTES.pack(
                _ATTRIBUTES.size, os.SCHED_OTHER, _RESET_ON_FORK, one, 0, _SLICE_NS, 0, 0
            )
            if not libc.syscall(ctypes.c_long(call), ctypes.c_long(0), wanted, ctypes.c_long(0)):
                if one != nice:
                    _usual = nice
                return
        why = os.strerror(ctypes.get_errno())
        log.debug("the event loop keeps its usual time slice: %s", why)
