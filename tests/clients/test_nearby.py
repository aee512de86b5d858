"""A thread that waits on its core, and gets its mask back."""

from __future__ import annotations

import os

import pytest

from edged.clients import nearby
from edged.clients.nearby import NOWHERE, Nearby, Worth

ALL = frozenset(os.sched_getaffinity(0))
SHORT, LONG = 100_000, 5_000_000
APART, NEAR = 300_000, 200_000
SAMPLE = nearby._SAMPLE
several = pytest.mark.skipif(len(ALL) < 2, reason="a stay needs two cores")


@pytest.fixture
def one() -> Nearby:
    """It has seen how long requests take when nobody stays anywhere."""
    made = Nearby()
    for _ in range(SAMPLE):
        assert made.answered(APART, SHORT) is None
    return made


def wait_once(one: Nearby, request_ns: int = NEAR, run_ns: int = SHORT) -> int | None:
    """A request and its answer."""
    found = one.choices()
    assert found is not None
    one.stay()
    one.go(found)
    return one.answered(request_ns, run_ns)


@several
class TestNearby:
    def test_waits_where_it_is_and_goes_on_anywhere(self, one: Nearby):
        found = one.choices()
        assert found == ALL
        one.stay()
        (core,) = os.sched_getaffinity(0)
        assert nearby._core_now is not None
        assert nearby._core_now() == core
        one.go(found)
        assert os.sched_getaffinity(0) == ALL

    def test_the_daemon_is_told_once_a_core(self, one: Nearby, monkeypatch: pytest.MonkeyPatch):
        here, there = sorted(ALL)[:2]
        monkeypatch.setattr(nearby, "_core_now", lambda: here)
        assert [wait_once(one) for _ in range(4)] == [None, here, None, None]
        monkeypatch.setattr(nearby, "_core_now", lambda: there)
        assert [wait_once(one) for _ in range(3)] == [None, there, None]

    def test_who_is_moved_about_tells_nothing(self, one: Nearby, monkeypatch: pytest.MonkeyPatch):
        places = iter(sorted(ALL)[:2] * 10)
        monkeypatch.setattr(nearby, "_core_now", lambda: next(places))
        assert not any(wait_once(one) is not None for _ in range(20))

    def test_who_only_looks_stays_nowhere(self, one: Nearby, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(nearby, "_core_now", lambda: 1)

        def ask() -> int | None:
            one.look()
            assert os.sched_getaffinity(0) == ALL
            return one.answered(NEAR, SHORT)

        assert [ask() for _ in range(3)] == [None, 1, None]
        monkeypatch.setattr(nearby, "_core_now", lambda: 0)
        assert [ask() for _ in range(3)] == [None, 0, None]

    def test_the_daemon_is_told_to_go_when_nothing_is_won(self, one: Nearby):
        core = {None, wait_once(one), wait_once(one)} - {None}
        assert core < ALL
        told = [wait_once(one, APART) for _ in range(SAMPLE)]
        assert told == [None] * (SAMPLE - 1) + [NOWHERE]
        assert one.choices() is None
        assert one.answered(APART, SHORT) is None

    def test_not_while_runs_are_long(self, one: Nearby):
        wait_once(one)
        wait_once(one)
        assert wait_once(one, run_ns=LONG) == NOWHERE
        assert one.choices() is None
        for _ in range(SAMPLE):
            assert one.choices() is None
            assert one.answered(APART, SHORT) is None
        assert one.choices() == ALL

    def test_not_where_the_process_may_not(self, one: Nearby, monkeypatch: pytest.MonkeyPatch):
        def refuse(*_: object) -> None:
            raise PermissionError(1, "not permitted")

        with monkeypatch.context() as patch:
            patch.setattr(os, "sched_setaffinity", refuse)
            one.stay()
        assert one.choices() is None
        assert one.answered(NEAR, SHORT) is None


def test_not_on_one_core(one: Nearby, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert one.choices() is None


def test_not_without_the_call(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(nearby, "_core_now", None)
    one = Nearby()
    for _ in range(2 * SAMPLE):
        assert one.choices() is None
        assert one.answered(APART, SHORT) is None


class TestWorth:
    def told(self, apart_ns: int, near_ns: int, requests: int = 200) -> Worth:
        worth = Worth()
        for _ in range(requests):
            is_near = worth.is_wanted
            worth.took(near_ns if is_near else apart_ns, is_near=is_near)
        return worth

    @pytest.mark.parametrize(
        ("apart_ns", "near_ns", "is_wanted"),
        [
            (300, 100, True),
            (100, 100, False),
            (100, 95, False),
            (100, 300, False),
            (800, 750, True),
        ],
    )
    def test_where_requests_are_faster(self, apart_ns: int, near_ns: int, is_wanted: bool):
        assert self.told(apart_ns, near_ns).is_wanted is is_wanted

    def test_one_slow_request_decides_nothing(self):
        worth = Worth()
        for number in range(200):
            is_near = worth.is_wanted
            spike = 10**9 if number % 10 == 0 else 0
            worth.took((100 if is_near else 300) + spike, is_near=is_near)
        assert worth.is_wanted

    def test_is_tried_before_it_is_known(self):
        assert not self.told(100, 100, requests=SAMPLE - 1).is_wanted
        assert self.told(100, 100, requests=SAMPLE).is_wanted

    def test_is_asked_again(self):
        worth = self.told(300, 100, requests=nearby._AGAIN)
        assert worth.is_wanted
        for _ in range(200):
            worth.took(100, is_near=worth.is_wanted)
        assert not worth.is_wanted
