"""Long work on a thread beside the event loop lets the loop in, time and again.

Each quick system call gives up the interpreter and takes it back some microseconds later: before
the loop's thread, which that woke, has come to run. It finds the interpreter taken, and as it was
woken before its patience ended (``sys.setswitchinterval``), it asks nobody to let go. A thread that
looks at thousands of files so keeps the loop waiting for milliseconds, though nothing ever holds
the interpreter for long. Therefore such work rests between two of its pieces, for a moment and
really: a sleep of no length would have the interpreter back at once, too.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

_EVERY_S = 150e-6
"""How long a thread works between two rests; about what a small model's request takes."""
_REST_S = 20e-6
"""Longer than the loop's thread takes to wake; what it has taken up by then it finishes."""
_SLACK_NS = 1_000
"""By how much the kernel may be late with a rest's end: 50 us are usual, twice the rest itself."""
_PR_SET_TIMERSLACK = 29


class _Thread(threading.local):
    worked_since = 0.0


_thread = _Thread()
_loop_thread = 0
"""Whose loop is to be let in; 0 while none is."""


@contextlib.contextmanager
def beside_loop() -> Iterator[None]:
    """Let the calling thread's loop in from now on, whoever works beside it."""
    global _loop_thread  # noqa: PLW0603 - one loop of a process answers requests
    _loop_thread = threading.get_ident()
    try:
        yield
    finally:
        _loop_thread = 0


def breathe() -> None:
    """Between two pieces of long work: let the loop in if it is time; else this costs nothing.

    Nothing on the loop's own thread, nor while no loop is to be let in: a start, a command line.
    """
    if not _loop_thread:
        return
    now = time.perf_counter()
    if now - _thread.worked_since < _EVERY_S or threading.get_ident() == _loop_thread:
        return
    time.sleep(_REST_S)
    _thread.worked_since = time.perf_counter()


def wake_exactly() -> None:
    """Have the rests of the calling thread end when they should; where the kernel can."""
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes  # noqa: PLC0415 - the one call that Python has no name for

        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, ctypes.c_ulong(_SLACK_NS), 0, 0, 0)
