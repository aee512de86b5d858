"""Where runs go: two of them not on one core while another is free."""

from __future__ import annotations

import os
import threading

import pytest

from edged.system import places as module
from edged.system.places import Places


class Machine:
    """Three cores; the caller is on one of them, and goes where it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.core, self.masks = 0, []
        self.is_forbidden = False
        monkeypatch.setattr(module, "_core_now", lambda: self.core)
        monkeypatch.setattr(module, "usable", lambda: frozenset({0, 1, 2}))
        monkeypatch.setattr(os, "sched_setaffinity", self._set)

    def _set(self, pid: int, cores: set[int] | frozenset[int]) -> None:
        if self.is_forbidden:
            raise PermissionError(1, "Operation not permitted")
        assert pid == 0, "the calling thread"
        self.masks.append(set(cores))
        if len(cores) == 1:
            (self.core,) = cores


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_a_run_goes_where_no_other_is_and_may_be_moved_from_there(machine: Machine):
    places = Places()
    assert places.take() == 0
    assert machine.masks == [], "it was alone"
    machine.core = 0
    assert places.take() == 1
    assert machine.masks == [{1}, {0, 1, 2}]
    machine.core = 0
    assert places.take() == 2
    machine.core, machine.masks = 0, []
    assert places.take() == 0, "all are taken: the kernel shares them out"
    assert machine.masks == []


def test_a_place_is_free_again_when_its_run_has_ended(machine: Machine):
    places = Places()
    first = places.take()
    machine.core = 0
    second = places.take()
    places.give(first)
    machine.core, machine.masks = second, []
    assert places.take() == first
    places.give(second)
    places.give(first)
    machine.core, machine.masks = 2, []
    assert places.take() == 2
    assert machine.masks == []


def test_where_it_may_not_go_elsewhere_it_stays(machine: Machine):
    places = Places()
    machine.is_forbidden = True
    assert [places.take(), places.take()] == [0, 0]
    places.give(0)
    places.give(0)
    machine.is_forbidden = False
    assert places.take() == 0
    assert machine.masks == []


def test_where_nobody_knows_the_core_nothing_is_done(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "_core_now", None)
    places = Places()
    places.give(places.take())
    places.give(places.take())
    assert machine.masks == []


def test_where_a_sandbox_keeps_the_core_back_nothing_is_done(machine: Machine):
    places = Places()
    for _ in range(3):
        machine.core = -1
        places.give(places.take())
    assert machine.masks == []


@pytest.mark.skipif(len(os.sched_getaffinity(0)) == 1, reason="one core is all there is")
def test_threads_of_a_real_machine():
    """Both begin on one core; the second leaves it, and each may use all of them in the end."""
    everywhere = os.sched_getaffinity(0)
    places, found = Places(), []

    def run() -> None:
        os.sched_setaffinity(0, {min(everywhere)})
        os.sched_setaffinity(0, everywhere)
        found.append((places.take(), os.sched_getaffinity(0)))

    for _ in range(2):
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    (first, mask), (second, other_mask) = found
    assert first != second
    assert mask == other_mask == everywhere
