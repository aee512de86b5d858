"""The real file system calls."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.outbox.disk import Disk


def test_a_file_from_first_to_last(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "outbox")
    disk.prepare()
    disk.prepare()
    file = disk.open("b", create=True)
    disk.write(file, b"hello world", 0)
    disk.write(file, b"W", 6)
    disk.sync(file)
    disk.sync_names()
    assert disk.read(file, 100, 0) == b"hello World"
    assert disk.read(file, 3, 2) == b"llo"
    disk.cut(file, 5)
    assert disk.size(file) == 5
    disk.close(file)
    assert disk.names() == ["b"]
    assert (tmp_path / "outbox" / "b").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "outbox").stat().st_mode & 0o777 == 0o700
    disk.remove("b")
    disk.remove("b")
    assert disk.names() == []


def test_nothing_that_is_there_is_taken_for_new_and_no_link_followed(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    disk.close(disk.open("a", create=True))
    with pytest.raises(FileExistsError):
        disk.open("a", create=True)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with pytest.raises(OSError, match="symbolic"):
        disk.open("link")
