"""Threads for slow steps."""

from __future__ import annotations

import threading

from edged.serving.scheduling.turn import Turn
from edged.serving.workshop import Errand, Workshop
from tests.fakes.clock import on_loop, until


@on_loop
async def test_a_job_on_a_thread_and_its_result_on_the_loop():
    workshop = Workshop(Turn())
    done = []
    workshop.do(threading.get_ident, lambda ident: done.append((ident, threading.get_ident())))
    await until(lambda: done)
    ((there, here),) = done
    assert there != here == threading.get_ident()
    assert not workshop.is_busy
    workshop.close()


def test_an_errand_is_done_once_or_withdrawn():
    done = []
    errand = Errand(lambda: done.append(1))
    errand()
    errand()
    assert not errand.withdraw()
    other = Errand(lambda: done.append(2))
    assert other.withdraw()
    other()
    assert done == [1]


def test_closed_before_it_was_used():
    Workshop(Turn()).close()
