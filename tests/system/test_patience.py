"""Waits that were worth it go on; those in vain are left out for a while."""

from __future__ import annotations

import pytest

from edged.system.patience import Patience


@pytest.fixture(autouse=True)
def _on_two_cores(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})


def test_worth_it():
    made = Patience(1000)
    for _ in range(200):
        assert made.is_worth_it()
        made.ended(in_time=True)


def test_in_vain():
    made = Patience(1000)
    seen = []
    for _ in range(4 + 64 + 4 + 64):
        seen.append(made.is_worth_it())
        if seen[-1]:
            made.ended(in_time=False)
    assert seen == ([True] * 4 + [False] * 64) * 2


def test_one_that_comes_forgives_those_that_did_not():
    made = Patience(1000)
    for in_time in (False, False, False, True) * 10:
        assert made.is_worth_it()
        made.ended(in_time=in_time)


def test_never():
    assert not Patience(0).is_worth_it()


def test_not_on_one_core(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})
    assert not Patience(1000).is_worth_it()
