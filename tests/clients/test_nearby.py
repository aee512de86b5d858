"""A thread that waits on its core, and gets its mask back."""

from __future__ import annotations

import os

import pytest

from edged.clients import nearby
from edged.clients.nearby import Nearby

ALL = frozenset(os.sched_getaffinity(0))
SHORT = 100_000
several = pytest.mark.skipif(len(ALL) < 2, reason="a stay needs two cores")


@pytest.fixture
def one() -> Nearby:
    made = Nearby()
    made.answered(SHORT)
    return made


def wait_once(one: Nearby, run_ns: int = SHORT) -> int | None:
    """A request and its answer."""
    found = one.stay()
    assert found is not None
    one.go(found)
    return one.answered(run_ns)


@several
class TestNearby:
    def test_waits_where_it_is_and_goes_on_anywhere(self, one: Nearby):
        found = one.stay()
        assert found == ALL
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

        def ask(run_ns: int = SHORT) -> int | None:
            one.look()
            assert os.sched_getaffinity(0) == ALL
            return one.answered(run_ns)

        assert [ask() for _ in range(3)] == [None, 1, None]
        monkeypatch.setattr(nearby, "_core_now", lambda: 0)
        assert [ask(5_000_000) for _ in range(3)] == [None, None, None], "these runs are long"

    def test_not_while_runs_are_long(self, one: Nearby):
        wait_once(one, 5_000_000)
        assert one.stay() is None
        one.answered(SHORT)
        found = one.stay()
        assert found == ALL
        one.go(found)

    def test_not_where_the_process_may_not(self, one: Nearby, monkeypatch: pytest.MonkeyPatch):
        def refuse(*_: object) -> None:
            raise PermissionError(1, "not permitted")

        with monkeypatch.context() as patch:
            patch.setattr(os, "sched_setaffinity", refuse)
            assert one.stay() is None
        assert one.stay() is None
        assert one.answered(SHORT) is None


def test_not_on_one_core(one: Nearby, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert one.stay() is None


def test_not_before_a_run_was_timed():
    assert Nearby().stay() is None


def test_not_without_the_call(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(nearby, "_core_now", None)
    one = Nearby()
    one.answered(SHORT)
    assert one.stay() is None
