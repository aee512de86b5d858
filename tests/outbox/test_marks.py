"""How far the log was delivered, over kills, cuts and damage."""

from __future__ import annotations

import random

import pytest

from edged.outbox.marks import IDS, NAME, SIZE_BYTES, Marks
from tests.fakes.cut_disk import CutDisk


def opened(disk: CutDisk) -> tuple[Marks, list[tuple[int, bytes]]]:
    marks = Marks(disk)
    return marks, marks.open()


def test_new_marks_know_nothing() -> None:
    disk = CutDisk()
    marks, ids = opened(disk)
    assert (marks.delivered, marks.begun, marks.is_known, ids) == (0, 0, True, [])
    assert disk.used == SIZE_BYTES


def test_they_survive_and_never_grow() -> None:
    disk = CutDisk(capacity=SIZE_BYTES)
    marks, _ = opened(disk)
    for number in range(1, 20):
        marks.delivered, marks.begun = number, number + 5
        marks.write()
    marks.keep_ids([(number, b"%016d" % number) for number in range(1, 2 * IDS)])
    found, ids = opened(disk.after_kill())
    assert (found.delivered, found.begun, found.is_known) == (19, 24, True)
    assert sorted(ids) == [(n, b"%016d" % n) for n in range(IDS, 2 * IDS)]


@pytest.mark.parametrize("seed", range(30))
def test_a_cut_leaves_what_was_synced_or_newer(seed: int) -> None:
    rng = random.Random(seed)
    disk = CutDisk()
    marks, _ = opened(disk)
    synced = 0
    for number in range(1, rng.randrange(2, 9)):
        marks.delivered = number
        marks.write()
        if number % 3 == 0:
            marks.sync()
            synced = number
    found, _ = opened(disk.after_cut(rng))
    # One slot may be torn; the other is at most one write older.
    assert found.delivered >= synced - 1


def test_damage_in_one_slot_costs_one_write() -> None:
    disk = CutDisk()
    marks, _ = opened(disk)
    for number in (1, 2, 3):
        marks.delivered = number
        marks.write()
    disk.damage(NAME, 9)  # the fourth turn, for making the file was the first
    assert opened(disk.after_kill())[0].delivered == 2
    disk.damage(NAME, 64 + 9)
    lost = opened(disk.after_kill())[0]
    assert (lost.delivered, lost.is_known) == (0, False)


def test_a_short_file_is_made_whole() -> None:
    disk = CutDisk()
    opened(disk)
    file = disk.open(NAME)
    disk.cut(file, 70)
    marks, ids = opened(disk)
    assert ids == []
    marks.delivered = 7
    marks.write()
    assert disk.used == SIZE_BYTES
