"""What asks for nothing is counted; time and real work give it back."""

from __future__ import annotations

import pytest

from edged.protocol.http2_allowance import Allowance
from edged.protocol.http2_frames import BrokenConnectionError, Reason


def test_it_ends_and_says_of_what():
    one = Allowance("PINGs", 3, 10)
    for _ in range(3):
        one.spend(0)
    with pytest.raises(BrokenConnectionError, match="PINGs") as caught:
        one.spend(0)
    assert caught.value.reason is Reason.ENHANCE_YOUR_CALM


def test_time_gives_back_up_to_the_most():
    one = Allowance("PINGs", 3, 10)
    for _ in range(3):
        one.spend(0)
    one.spend(100_000_000)
    with pytest.raises(BrokenConnectionError):
        one.spend(100_000_000)
    for _ in range(3):
        one.spend(3600 * 10**9)
    with pytest.raises(BrokenConnectionError):
        one.spend(3600 * 10**9)


def test_work_gives_back():
    one = Allowance("PINGs", 2, 0)
    for _ in range(100):
        one.spend(0)
        one.earn()
    one.earn(100)
    one.spend(0)
    one.spend(0)
    with pytest.raises(BrokenConnectionError):
        one.spend(0)
