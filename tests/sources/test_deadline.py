"""What waits for a peer ends, and an alarm that was there before goes on."""

from __future__ import annotations

import signal
import socket

import pytest

from edged.errors import SourceError
from edged.sources.deadline import deadline
from tests.e2e.process import wait_for


def test_a_wait_in_the_kernel_ends():
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(SourceError, match=r"r.example: not within 0.05 s"):  # noqa: SIM117
        with deadline(0.05, "r.example"):
            ours.recv(1)


def test_what_is_in_time_ends_as_it_does():
    with deadline(60, "x"):
        pass
    with pytest.raises(KeyError), deadline(60, "x"):
        raise KeyError


def test_the_alarm_of_somebody_around_goes_on():
    rung = []
    handler = signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
    before = signal.setitimer(signal.ITIMER_REAL, 30.0)
    try:
        with deadline(60, "x"):
            assert signal.getitimer(signal.ITIMER_REAL)[0] > 30
        assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 30
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        with deadline(60, "x"):
            pass
        wait_for(lambda: rung)
    finally:
        signal.setitimer(signal.ITIMER_REAL, *before)
        signal.signal(signal.SIGALRM, handler)
