"""A file that is kept twice; ``test_floors.py`` and ``test_trust_state.py`` cut its power."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import tempfile
from pathlib import Path

import pytest

from edged.errors import ApplyError
from edged.store.twice import Twice


def test_both_are_read_and_either_will_do(tmp_path: Path) -> None:
    files = Twice(tmp_path, "note", 10)
    assert list(files.read()) == []
    with files.locked():
        files.write(b"one")
    assert list(files.read()) == [("note.json", b"one"), ("note-2.json", b"one")]
    assert (tmp_path / "note.json").stat().st_mode & 0o777 == 0o600
    (tmp_path / "note.json").unlink()
    assert list(files.read()) == [("note-2.json", b"one")]
    assert files.was_written()
    (tmp_path / "note-2.json").unlink()
    assert files.was_written(), "this is no new device"
    assert files.remove()
    assert not files.remove()
    assert not files.was_written()


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_what_is_no_file_is_passed_over(tmp_path: Path, kind: str) -> None:
    files = Twice(tmp_path, "note", 10)
    files.write(b"one")
    first = tmp_path / "note.json"
    first.unlink()
    if kind == "link":
        first.symlink_to(tmp_path / "note-2.json")
    elif kind == "folder":
        first.mkdir()
    else:
        os.mkfifo(first)
    assert dict(files.read())["note-2.json"] == b"one"
    assert not dict(files.read())["note.json"], "it is there, and says nothing"


def test_what_was_written_by_another_edged_is_noted_later(tmp_path: Path) -> None:
    files = Twice(tmp_path, "note", 10)
    files.write(b"one")
    (tmp_path / "written" / "note").unlink()
    assert not files.was_written()
    files.note()
    assert files.was_written()


def test_a_link_leads_no_note_elsewhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The directory is the daemon's, and root writes there: into /etc, by a link."""
    state, other = tmp_path / "state", tmp_path / "other"
    state.mkdir()
    other.mkdir()
    (state / "written").symlink_to(other)
    files = Twice(state, "note", 10)
    files.write(b"one")
    assert list(other.iterdir()) == []
    assert "written/note cannot be noted" in caplog.text
    assert list(files.read()) == [("note.json", b"one"), ("note-2.json", b"one")]
    (other / "note").touch()
    assert files.remove()
    assert (other / "note").exists()


def test_no_more_is_read_than_there_may_be(tmp_path: Path) -> None:
    files = Twice(tmp_path, "note", 10)
    files.write(b"x" * 100)
    assert {len(data) for _, data in files.read()} == {11}


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_what_cannot_be_read_for_a_while_is_not_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Whoever holds many connections could else bring an older release or key back."""
    files = Twice(tmp_path, "note", 10)
    files.write(b"one")

    def fail(*_words: object, **_more: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(ApplyError, match=f"cannot be read at the moment: {os.strerror(code)}"):
        list(files.read())


def test_one_at_a_time_among_all_processes(tmp_path: Path) -> None:
    with (
        Twice(tmp_path, "note", 10).locked(),
        (tmp_path / "note.lock").open() as other,
        pytest.raises(BlockingIOError),
    ):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with (tmp_path / "note.lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to others, which root alone may")
def test_what_an_operator_writes_as_root_is_the_daemons(tmp_path: Path) -> None:
    os.chown(tmp_path, 1234, 1235)
    files = Twice(tmp_path, "note", 10)
    with files.locked():
        files.write(b"one")
    for name in ("note.json", "note-2.json", "note.lock"):
        info = (tmp_path / name).stat()
        assert (info.st_uid, info.st_gid) == (1234, 1235), name


@pytest.mark.parametrize("mode", [0o700, 0o711], ids=["the folder", "the files"])
def test_to_whom_the_folder_is_closed_nothing_is_damaged(mode: int) -> None:
    """Whoever runs ``edged check`` would be told that the device had lost its floors."""
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        place.chmod(0o711)
        folder = place / "state"
        folder.mkdir()
        files = Twice(folder, "note", 10)
        files.write(b"one")
        for name in files.copies:
            (folder / name).chmod(0)
        folder.chmod(mode)
        if os.geteuid() == 0:
            stack.callback(os.seteuid, 0)
            os.seteuid(65534)
        elif mode == 0o700:
            stack.callback(folder.chmod, 0o700)
            folder.chmod(0)
        found = list(files.read())
    assert found == ([] if mode == 0o700 else [("note.json", None), ("note-2.json", None)])


def test_words_are_noted_beside_it(tmp_path: Path) -> None:
    files = Twice(tmp_path, "note", 10)
    assert files.noted() == b""
    files.write(b"one", b"few")
    assert files.noted() == b"few"
    mark = tmp_path / "written" / "note"
    before = mark.stat().st_ino
    files.write(b"two", b"few")
    assert mark.stat().st_ino == before, "there is nothing to write"
    files.note(b"others")
    assert files.noted() == b"others"
    assert mark.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in mark.parent.iterdir()] == ["note"]
    mark.unlink()
    mark.symlink_to(tmp_path / "note.json")
    assert files.noted() == b"", "no link is followed"
    files.note(b"more")
    assert not mark.is_symlink()
    assert (tmp_path / "note.json").read_bytes() == b"two"
