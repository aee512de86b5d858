"""What was read of files is kept exactly as long as they are the same files, within bounds."""

from __future__ import annotations

import os
from pathlib import Path

from edged.store.unchanged import Stamp, Unchanged, stamp_of

LATER_NS = 10_000_000_000


def stamp(inode: int = 1, changed_ns: int = 0) -> Stamp:
    return Stamp(1, inode, 0o100644, 0, 4, 0, changed_ns)


def at_rest(cap: int = 8, cap_bytes: int = 100) -> Unchanged[str]:
    return Unchanged(cap, cap_bytes, now_ns=lambda: LATER_NS)


def test_kept_while_every_stamp_is_the_same() -> None:
    kept = at_rest()
    kept.keep("a", (stamp(1), stamp(2)), "said")
    assert kept.get("a", (stamp(1), stamp(2))) == "said"
    assert kept.get("b", (stamp(1), stamp(2))) is None
    for field in Stamp._fields:
        changed = stamp(2)._replace(**{field: 77})
        assert kept.get("a", (stamp(1), changed)) is None, field


def test_what_changed_a_moment_ago_is_not_kept() -> None:
    kept = at_rest()
    kept.keep("a", (stamp(),), "said")
    kept.keep("a", (stamp(changed_ns=LATER_NS - 1),), "newer")
    assert len(kept) == 0
    kept.keep("a", (stamp(changed_ns=2 * LATER_NS),), "from the future")
    assert len(kept) == 0


def test_bounded_by_number_and_by_size() -> None:
    kept = at_rest(cap=2)
    for name in "ab":
        kept.keep(name, (stamp(),), name)
    assert kept.get("a", (stamp(),)) == "a"
    kept.keep("c", (stamp(),), "c")
    assert [kept.get(name, (stamp(),)) for name in "abc"] == ["a", None, "c"]
    kept = at_rest(cap_bytes=100)
    for name in "abc":
        kept.keep(name, (stamp(),), name, 40)
    assert [kept.get(name, (stamp(),)) for name in "abc"] == [None, "b", "c"]
    kept.keep("b", (stamp(),), "again", 40)
    assert len(kept) == 2
    kept.keep("d", (stamp(),), "too long", 101)
    assert kept.get("d", (stamp(),)) is None


def test_a_file_that_was_written_in_place_with_its_old_times(tmp_path: Path) -> None:
    """Neither size nor time of modification tells; the change of the inode does."""
    path = tmp_path / "a"
    path.write_bytes(b"old!")
    before = path.stat()
    while True:  # until the file system's clock has gone on
        path.write_bytes(b"new!")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        after = path.stat()
        if after.st_ctime_ns != before.st_ctime_ns:
            break
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    kept: Unchanged[bytes] = Unchanged(now_ns=lambda: before.st_ctime_ns + LATER_NS)
    kept.keep("a", (stamp_of(before),), b"old!")
    assert kept.get("a", (stamp_of(before),)) == b"old!"
    assert kept.get("a", (stamp_of(path.stat()),)) is None


def test_a_stamp_has_all_that_tells_files_apart() -> None:
    """Each number of a look at a file is in its place; the time of the last reading is in none."""
    numbers = range(100, 110)
    info = os.stat_result([*numbers, 0, 0, 0], {"st_mtime_ns": 21, "st_ctime_ns": 22})
    mode, inode, device, _, owner, _, size, *_ = numbers
    assert stamp_of(info) == Stamp(device, inode, mode, owner, size, 21, 22)
