"""When to look, to try and to keep away: a table of times, and an hour of an idle box."""

from __future__ import annotations

import pytest

from edged.serving.choosing.comeback import (
    FIRST_LOOK_NS,
    FIRST_LOSS_NS,
    FIRST_TRY_NS,
    MOST_LOOK_NS,
    MOST_LOSS_NS,
    MOST_TRY_NS,
    WELL_NS,
    Comeback,
)

S = 1_000_000_000
NOW = 1000 * S


def test_looks_are_ever_rarer():
    one = Comeback()
    one.waits(NOW)
    assert one.next_ns == NOW + FIRST_LOOK_NS
    one.waits(NOW + 5 * S)
    assert one.next_ns == NOW + FIRST_LOOK_NS, "another load of it changes nothing"
    pauses = []
    for _ in range(8):
        now_ns = one.next_ns
        one.looked(now_ns)
        pauses.append((one.next_ns - now_ns) // S)
    assert pauses == [20, 40, 80, 160, 300, 300, 300, 300]


def test_an_hour_of_an_idle_box():
    one, now_ns, looks = Comeback(), NOW, 0
    one.waits(now_ns)
    while one.next_ns <= NOW + 3600 * S:
        now_ns = one.next_ns
        one.looked(now_ns)
        looks += 1
    assert looks <= 17


def test_tries_are_rarer_still():
    one = Comeback()
    one.waits(NOW)
    pauses = []
    for _ in range(9):
        now_ns = one.next_ns
        one.failed(now_ns)
        pauses.append((one.next_ns - now_ns) // S)
    assert pauses == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]
    assert (FIRST_TRY_NS, MOST_TRY_NS, MOST_LOOK_NS) == (60 * S, 3600 * S, 300 * S)


def test_somebody_who_mends_it_need_not_wait():
    one = Comeback()
    one.hurry(NOW)
    assert one.next_ns == 0, "nothing is waited for"
    one.waits(NOW)
    for _ in range(5):
        one.failed(NOW)
    one.hurry(NOW + S)
    assert one.next_ns == NOW + S
    one.failed(NOW + S)
    assert one.next_ns == NOW + S + FIRST_TRY_NS


@pytest.mark.parametrize(
    ("is_apart", "pauses"), [(False, [10, 20, 40, 80]), (True, [0, 10, 20, 40])]
)
def test_a_device_that_is_lost_again_and_again_is_left_alone(is_apart: bool, pauses: list[int]):
    one, now_ns, found = Comeback(), NOW, []
    for _ in pauses:
        until_ns = one.lost("gpu", "gone", now_ns, is_apart=is_apart)
        found.append((until_ns - now_ns) // S)
        assert one.avoid(until_ns) == {}
        if found[-1]:
            assert one.avoid(until_ns - 1) == {"gpu": "gone"}
        now_ns = until_ns + S
        one.arrived()
        assert one.avoid(now_ns) == {}
    assert found == pauses


def test_no_pause_is_longer_than_its_bound_and_a_good_while_starts_anew():
    one, now_ns = Comeback(), NOW
    for _ in range(30):
        until_ns = one.lost("gpu", "gone", now_ns, is_apart=False)
        assert until_ns - now_ns <= MOST_LOSS_NS
        now_ns += S
    assert until_ns == now_ns - S + MOST_LOSS_NS
    now_ns += WELL_NS + S
    assert one.lost("gpu", "gone", now_ns, is_apart=False) == now_ns + FIRST_LOSS_NS


def test_a_lost_runtime_is_not_looked_at_before_its_time():
    one = Comeback()
    for _ in range(4):
        until_ns = one.lost("gpu", "gone", NOW, is_apart=False)
    one.waits(NOW)
    assert one.next_ns == until_ns == NOW + 80 * S
