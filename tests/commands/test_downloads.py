"""Where what is fetched lies meanwhile; what a pull makes of it is test_pulling.py's."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from edged.commands.downloads import FOLDER, Download, Note
from edged.config.sources import parse_reference
from edged.errors import ApplyError, BusyError, IncompatibleError

ONE, OTHER = parse_reference("files/m:stable"), parse_reference("files/m:next")


def test_each_reference_has_files_of_its_own_and_one_who_works_on_them(tmp_path: Path):
    one, other = Download(tmp_path, ONE), Download(tmp_path, OTHER)
    assert one.path("part") != other.path("part")
    with one.locked(), other.locked():
        with pytest.raises(BusyError, match="files/m:stable is being pulled already"):
            Download(tmp_path, ONE).locked().__enter__()
        for ending in ("part", "json", "edgb", "note"):
            one.path(ending).touch()
        one.clean()
    assert (tmp_path / FOLDER).stat().st_mode & 0o777 == 0o700
    left = {path.suffix for path in (tmp_path / FOLDER).iterdir() if path.stem == one._key}
    assert left == {".lock", ".note"}
    with one.locked():
        pass


def test_notes(tmp_path: Path):
    download = Download(tmp_path, ONE)
    assert download.read_note() == Note("")
    with download.locked():
        download.touch_note()
        download.write_note(Note("d", bundle="b"))
        assert download.read_note() == Note("d", bundle="b")
        for damaged in (b"", b"{", b'{"digest":3}', b'{"digest":"' + b"x" * (17 << 10) + b'"}'):
            download.path("note").write_bytes(damaged)
            assert download.read_note() == Note("")


def test_what_nobody_goes_on_with_is_removed(tmp_path: Path):
    download = Download(tmp_path, ONE)
    with download.locked():
        download.path("part").touch()
        theirs = tmp_path / FOLDER / "somebody's.part"
        theirs.touch()
    old = time.time() - 31 * 24 * 3600
    for path in (download.path("part"), theirs):
        os.utime(path, (old, old))
    with Download(tmp_path, OTHER).locked():
        assert not download.path("part").exists()
        assert theirs.exists()


def test_a_link_in_its_place_is_not_followed(tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / FOLDER).symlink_to("elsewhere")
    with pytest.raises(ApplyError, match="is a link, which is not followed"):
        Download(tmp_path, ONE).locked().__enter__()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_room(tmp_path: Path):
    download = Download(tmp_path, ONE)
    with download.locked():
        download.check_room(1)
        with pytest.raises(IncompatibleError, match="make room, then try again"):
            download.check_room(1 << 60)
