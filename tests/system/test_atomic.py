"""A file is the old one or the new one; what a power cut leaves: tests/generation/test_record.py."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from edged.system.atomic import make_directory, sync_directory, write_atomically


def test_private_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "note"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["note"]


def test_a_disk_that_does_not_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "note"
    write_atomically(path, b"old")

    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["note"]
    with pytest.raises(OSError, match="Input/output"):
        sync_directory(tmp_path)


def test_folders_are_there_after_a_power_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync = os.fsync
    monkeypatch.setattr(
        os,
        "fsync",
        lambda fd: (synced.append(str(Path(f"/proc/self/fd/{fd}").readlink())), fsync(fd)),
    )
    make_directory(tmp_path / "a/b")
    assert synced == [str(tmp_path), str(tmp_path / "a")], "each where its name is"
    make_directory(tmp_path / "a/b")
    assert len(synced) == 2, "one that is there costs nothing"
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o700
