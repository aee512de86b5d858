"""The loader's thread is one, for good, and goes after those that serve."""

from __future__ import annotations

import os
import threading

from edged.serving.memory.loader_thread import make_loader_thread


def test_it_is_nice_and_outlives_what_it_does():
    def fail() -> None:
        raise KeyboardInterrupt

    thread = make_loader_thread()
    first = thread.submit(threading.get_native_id).result(10)
    assert isinstance(thread.submit(fail).exception(10), KeyboardInterrupt)
    assert thread.submit(threading.get_native_id).result(10) == first
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    assert os.getpriority(os.PRIO_PROCESS, first) == max(own, 10)
    thread.shutdown()
