"""One file: its header, reading on, and what damage costs."""

from __future__ import annotations

import pytest

from edged.outbox.age import Moment
from edged.outbox.entry import Entry, Policy, encode
from edged.outbox.segment import (
    HEADER_BYTES,
    Segment,
    make_segment,
    open_segment,
    read_from,
    records,
)
from tests.fakes.cut_disk import CutDisk

BOOT = b"8 bytes."


def filled(disk: CutDisk, *sizes: int) -> Segment:
    segment = make_segment(disk, 5, BOOT)
    for number, size in enumerate(sizes):
        entry = Entry(b"k", b"x" * size, Moment(BOOT, 1, 2), sequence=5 + number)
        disk.write(segment.file, encode(entry, segment.salt), segment.end)
        segment.end += entry.size_bytes
        segment.last = entry.sequence
    return segment


def test_made_and_opened_again() -> None:
    disk = CutDisk()
    made = make_segment(disk, 5, BOOT)
    assert disk.names() == ["00000000000000000005.log"]
    opened = open_segment(disk, made.name)
    assert opened is not None
    assert (opened.salt, opened.boot, opened.first, opened.last) == (made.salt, BOOT, 5, 4)


@pytest.mark.parametrize("at", range(HEADER_BYTES))
def test_a_header_with_any_byte_damaged_is_none(at: int) -> None:
    disk = CutDisk()
    name = make_segment(disk, 5, BOOT).name
    disk.damage(name, at)
    assert open_segment(disk, name) is None


def test_a_file_that_cannot_be_made_leaves_nothing() -> None:
    disk = CutDisk(capacity=HEADER_BYTES - 1)
    with pytest.raises(OSError, match="No space"):
        make_segment(disk, 5, BOOT)
    assert disk.names() == []


def test_reading_on_piece_by_piece() -> None:
    disk = CutDisk()
    segment = filled(disk, 10, 5000, 0, 10)
    at, found = HEADER_BYTES, []
    while at < segment.end:
        entries, at = read_from(disk, segment, at, 300)  # the second is larger than that
        found += [(one.sequence, len(one.data)) for one in entries]
    assert found == [(5, 10), (6, 5000), (7, 0), (8, 10)]
    assert read_from(disk, segment, at, 300) == ([], segment.end)


def test_reading_jumps_over_damage() -> None:
    disk = CutDisk()
    segment = filled(disk, 10, 10, 10)
    first = len(encode(Entry(b"k", b"x" * 10, Moment(BOOT, 1, 2)), 0))
    disk.damage(segment.name, HEADER_BYTES + first + 20)
    entries, at = read_from(disk, segment, HEADER_BYTES)
    assert [one.sequence for one in entries] == [5]
    entries, at = read_from(disk, segment, at)
    assert entries == []
    entries, at = read_from(disk, segment, at)
    assert [one.sequence for one in entries] == [7]
    assert [one.entry is None for one in records(disk, segment)] == [False, True, False]


def test_counting() -> None:
    segment = make_segment(CutDisk(), 1, BOOT)
    entry = Entry(b"", b"", Moment(BOOT, 1, 2))
    segment.count(entry, 1)
    segment.count(entry._replace(policy=Policy.DROP_OLDEST), 1)
    assert (segment.live, segment.held) == (2, 1)
    segment.count(entry, -1)
    assert (segment.live, segment.held) == (1, 0)
