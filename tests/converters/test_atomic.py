import os
import stat

import pytest

from converters import atomic
from converters.atomic import draft, replace_file
from converters.errors import ConversionError


def test_a_file_is_replaced_as_a_whole_and_readable_for_all(tmp_path):
    place = tmp_path / "a.json"
    place.write_bytes(b"old and longer")
    before = os.umask(0o077)
    try:
        replace_file(place, b"new")
    finally:
        os.umask(before)
    assert place.read_bytes() == b"new"
    assert stat.S_IMODE(place.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [place]


def test_until_the_end_readers_find_the_old_one(tmp_path):
    place = tmp_path / "a.json"
    place.write_bytes(b"old")
    with draft(place) as begun:
        begun.file.write(b"new")
        begun.file.flush()
        assert place.read_bytes() == b"old"
        # What sweeps up after a killed batch looks for this.
        assert len(list(tmp_path.glob(".a.json.*"))) == 1
    assert place.read_bytes() == b"new"


@pytest.mark.parametrize("ending", [KeyboardInterrupt, SystemExit, ValueError])
def test_whatever_ends_it_leaves_the_old_file_and_nothing_beside(tmp_path, ending):
    place = tmp_path / "a.json"
    place.write_bytes(b"old")

    def stop_half_way():
        with draft(place) as begun:
            begun.file.write(b"half")
            raise ending

    with pytest.raises(ending):
        stop_half_way()
    assert place.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [place]


def test_a_name_may_be_settled_by_what_was_written(tmp_path):
    with draft(tmp_path / "blob") as begun:
        begun.file.write(b"x")
        begun.path = tmp_path / "2d711642"
    assert [path.name for path in tmp_path.iterdir()] == ["2d711642"]


def test_the_file_is_synced_before_it_gets_its_name_and_the_folder_after(tmp_path, monkeypatch):
    place, seen = tmp_path / "a.json", []
    honest = os.fsync

    def sync(descriptor):
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        seen.append(("folder" if is_folder else "file", place.exists()))
        honest(descriptor)

    monkeypatch.setattr(atomic.os, "fsync", sync)
    replace_file(place, b"new")
    assert seen == [("file", False), ("folder", True)]


def test_a_disk_that_cannot_be_synced_is_told_and_a_folder_that_cannot_is_not(
    tmp_path, monkeypatch
):
    place = tmp_path / "a.json"
    place.write_bytes(b"old")
    honest = os.fsync

    def refuse(kind):
        def sync(descriptor):
            if kind(os.fstat(descriptor).st_mode):
                raise OSError(5, "Input/output error")
            honest(descriptor)

        monkeypatch.setattr(atomic.os, "fsync", sync)

    refuse(stat.S_ISREG)
    with pytest.raises(ConversionError, match=r"a\.json: cannot be written: Input/output error"):
        replace_file(place, b"new")
    assert place.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [place]
    refuse(stat.S_ISDIR)
    replace_file(place, b"new")
    assert place.read_bytes() == b"new"


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(ConversionError, match="cannot be written: No such file"):
        replace_file(tmp_path / "no" / "a.json", b"")


def test_a_folder_or_pipe_by_that_name_stays(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(ConversionError, match="expected a file or a new name"):
            replace_file(place, b"")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert list(tmp_path.iterdir()) == [tmp_path / "pipe"]
