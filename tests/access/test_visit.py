"""What one connection remembers of its rights."""

from __future__ import annotations

import logging

import pytest

from edged.access.gate import Access, Gate
from edged.access.policy import Peer, Policy
from edged.access.visit import Visit

PEER = Peer("native", 4001)


class Counted(Policy):
    decided = 0

    def decide(self, *args, **words):
        type(self).decided += 1
        return super().decide(*args, **words)


@pytest.fixture
def visit() -> Visit:
    Counted.decided = 0
    return Gate(Access(Counted(()))).enter(PEER, lambda: None)


def test_each_decision_is_made_once(visit: Visit):
    for _ in range(5):
        assert not visit.allows("infer", "m")
        assert not visit.allows("metadata", "m")
    assert Counted.decided == 2
    visit.renew()
    assert not visit.allows("infer", "m")
    assert Counted.decided == 3


def test_who_tries_names_fills_neither_memory_nor_log(
    visit: Visit, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.WARNING):
        for number in range(5000):
            assert not visit.allows("infer", f"name-{number}\n")
    assert len(visit._known) <= 1024
    assert len(caplog.records) == 8
    assert "\n" not in caplog.records[0].getMessage()


def test_it_is_guarded_where_something_can_be_refused():
    assert not Gate().enter(PEER, lambda: None).is_guarded
    assert Gate(Access(Policy(()))).enter(PEER, lambda: None).is_guarded
