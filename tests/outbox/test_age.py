"""Ages that survive a clock which is wrong."""

from __future__ import annotations

import time

import pytest

from edged.outbox import age
from edged.outbox.age import Moment, age_ns

S = 10**9
NOW = 1_790_000_000 * S
A, B = b"boot-one", b"boot-two"


@pytest.mark.parametrize(
    ("then", "at", "seconds"),
    [
        (Moment(A, 5 * S, NOW), Moment(A, 8 * S, NOW + 3 * S), 3),
        # The clock was 1970 and is set by the network: three seconds have passed, not 56 years.
        (Moment(A, 5 * S, 9 * S), Moment(A, 8 * S, NOW), 3),
        (Moment(A, 5 * S, NOW), Moment(A, 8 * S, NOW - 99 * S), 3),
        (Moment(A, 5 * S, NOW), Moment(B, 2 * S, NOW + 60 * S), 60),
        (Moment(A, 5 * S, NOW), Moment(B, 2 * S, 9 * S), 0),
        (Moment(A, 5 * S, 9 * S), Moment(B, 2 * S, NOW), 0),
        (Moment(A, 5 * S, NOW), Moment(B, 2 * S, NOW - 60 * S), 0),
        (Moment(bytes(8), 5 * S, NOW), Moment(bytes(8), 2 * S, NOW + S), 1),
    ],
)
def test_ages(then: Moment, at: Moment, seconds: int) -> None:
    assert age_ns(then, at) == seconds * S


def test_the_present() -> None:
    first, second = age.now(), age.now()
    assert first.boot == second.boot
    assert first.boot_ns <= second.boot_ns
    assert abs(first.wall_ns - time.time_ns()) < 60 * S


def test_a_kernel_that_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(age, "_BOOT_ID", age._BOOT_ID / "none")
    assert age.read_boot() == bytes(8)
