"""Long work on a thread beside the event loop lets the loop in, time and again.

Each quick system call gives up the interpreter and takes it back some microseconds later: before
the loop's thread, which that woke, has come to run. It finds the interpreter taken, and as it was
woken before its patience ended (``sys.setswitchinterval``), it asks nobody to let go. A thread that
looks at thousands of files so keeps the loop waiting for milliseconds, though nothing ever holds
the interpreter for long. Therefore such work rests between two of its pieces, for a moment and
really: a sleep of no length would have the interpreter back at once, too.

Back from its rest it waits until the loop has nothing more to do, longer than threads usually wait:
else it would take the interpreter in the midst of the request that it rested for, and the loop
would wait for it a second time.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_EVERY_S = 100e-6
"""How long a thread works between two rests; about what a small model's request takes."""
_REST_S = 30e-6
"""Longer than the loop's thread takes to wake; what it has taken up by then it finishes."""
_PATIENCE_S = 300e-6
"""Longer than the loop takes for a request of a small model, with what waits behind it."""
_SLACK_NS = 1_000
"""By how much the kernel may be late with a rest's end: 50 us are usual, twice the rest itself."""
_PR_SET_TIMERSLACK = 29


class _Thread(threading.local):
    worked_since = 0.0


class _Patience:
    """How long a thread waits before it asks another to let go of the interpreter."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._count = 0
        self._usual_s = 0.0

    def begin(self) -> None:
        with self._mutex:
            self._count += 1
            if self._count == 1:
                self._usual_s = sys.getswitchinterval()
                _wait_for(max(self._usual_s, _PATIENCE_S))

    def end(self) -> None:
        with self._mutex:
            self._count -= 1
            if not self._count:
                _wait_for(self._usual_s)


def _wait_for(seconds: float) -> None:
    # Whole microseconds are kept, cut off: half of one more, or each change would take one away.
    sys.setswitchinterval((round(seconds * 1e6) + 0.5) / 1e6)


_thread = _Thread()
_patience = _Patience()
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


def give_way() -> None:
    """Between two turns of a busy loop: let threads have the interpreter that wait for it.

    A request's run ends on one. Turns with nothing to wait for are as quick as system calls: they
    wake that thread, and have the interpreter back before it has come to run.
    """
    if _loop_thread:
        time.sleep(_REST_S)


def long_work(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do work that breathes, for which the calling thread is not to interrupt the loop.

    Threads that do not breathe keep the loop waiting longer meanwhile: for ``_PATIENCE_S``.
    """
    if not _loop_thread or threading.get_ident() == _loop_thread:
        return work(*args, **kwargs)
    _patience.begin()
    try:
        return work(*args, **kwargs)
    finally:
        _patience.end()


def wake_exactly() -> None:
    """Have the rests of the calling thread end when they should; where the kernel can."""
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes  # noqa: PLC0415 - the one call that Python has no name for

        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, ctypes.c_ulong(_SLACK_NS), 0, 0, 0)
