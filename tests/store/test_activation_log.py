"""The file of the activation log: what is in it after each step, and where the disk says no."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.store import activation_log
from edged.store.activation import History, Record, encode
from edged.store.activation_log import ActivationLog

TRY = Record(event="try", model="m", digest="a" * 64)
GOOD = Record(event="good", model="m", digest="a" * 64)
BAD = Record(event="bad", model="m", digest="b" * 64)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def test_what_was_appended_is_there_for_the_next_process(root: int):
    log = ActivationLog(root)
    assert log.read() == History({}, {})
    log.open()
    log.append(TRY)
    log.append(GOOD)
    log.close()
    assert log.history == ActivationLog(root).read() == History({"m": GOOD}, {})


def test_what_is_rewritten_replaces_all(root: int, tmp_path: Path):
    log = ActivationLog(root)
    log.open()
    log.append(TRY)
    log.close()
    log.rewrite(History({}, {BAD.digest: BAD}))
    assert ActivationLog(root).read() == log.history == History({}, {BAD.digest: BAD})
    assert [path.name for path in tmp_path.iterdir()] == ["activation.log"]


def test_a_release_that_is_tried_again_is_bad_no_more(root: int):
    log = ActivationLog(root)
    log.rewrite(History({}, {BAD.digest: BAD}))
    log.open()
    log.append(Record(event="try", model="m", digest=BAD.digest))
    assert not log.history.bad
    log.close()


def test_a_log_that_is_not_open_takes_nothing(root: int, tmp_path: Path):
    """As on a read-only file system, where it is only read."""
    log = ActivationLog(root)
    with pytest.raises(OSError, match="Read-only") as caught:
        log.append(TRY)
    assert caught.value.errno == errno.EROFS
    assert log.history == History({}, {})
    assert not list(tmp_path.iterdir())


def test_half_a_record_is_not_taken_for_one(root: int, monkeypatch: pytest.MonkeyPatch):
    log = ActivationLog(root)
    log.open()
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:20]))
    with pytest.raises(OSError, match="No space left") as caught:
        log.append(TRY)
    monkeypatch.undo()
    assert caught.value.errno == errno.ENOSPC
    assert log.history == History({}, {})
    log.append(TRY)
    log.close()
    assert ActivationLog(root).read() == log.history == History({"m": TRY}, {})


def test_half_a_record_that_is_there_spoils_no_other(root: int, tmp_path: Path):
    """A cut left it, and the disk had no room to write the log anew."""
    (tmp_path / "activation.log").write_bytes(encode(GOOD) + encode(TRY)[:20])
    log = ActivationLog(root)
    assert log.read() == History({"m": GOOD}, {}, damaged=1)
    log.open()
    log.append(BAD)
    log.close()
    assert ActivationLog(root).read() == History({"m": GOOD}, {BAD.digest: BAD}, damaged=1)


def test_a_link_in_its_place_is_not_followed(root: int, tmp_path: Path):
    (tmp_path / "activation.log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        ActivationLog(root).open()
    assert not (tmp_path / "elsewhere").exists()


AGAIN = Record(event="try", model="m", digest="a" * 64, attempts=2)
BEFORE = History({"m": TRY, "o": Record(event="good", model="o", digest="c" * 64)}, {})
AFTER = History({**BEFORE.last, "m": AGAIN}, {})


def fails(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(activation_log, "write_file", refuse)


@pytest.mark.parametrize("torn", [b"", b"0123abcd {"])
def test_on_a_full_disk_it_is_added_to(
    root: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torn: bytes
):
    """Else a box that lost its power then would serve nothing of what it has."""
    ActivationLog(root).rewrite(BEFORE)
    path = tmp_path / "activation.log"
    path.write_bytes(path.read_bytes() + torn)
    fails(monkeypatch, errno.ENOSPC)
    log = ActivationLog(root)
    log.read()
    log.rewrite(AFTER)
    assert log.history == AFTER
    found = ActivationLog(root).read()
    assert (found.last, found.bad) == (AFTER.last, AFTER.bad)
    size = path.stat().st_size
    log.rewrite(AFTER)  # nothing new, nothing written
    assert path.stat().st_size == size
    assert [one.name for one in tmp_path.iterdir()] == ["activation.log"]


def test_without_room_in_its_last_block_it_stays(
    root: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Half a record is taken back: the next one would be read as a part of it."""
    log = ActivationLog(root)
    log.rewrite(BEFORE)
    fails(monkeypatch, errno.EDQUOT)
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:20]))
    log.rewrite(AFTER)
    assert ActivationLog(root).read() == BEFORE


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_what_is_no_full_disk_or_the_first_start(
    root: int, monkeypatch: pytest.MonkeyPatch, code: int
):
    log = ActivationLog(root)
    if code != errno.ENOSPC:
        log.rewrite(BEFORE)
    fails(monkeypatch, code)
    with pytest.raises(OSError, match=os.strerror(code)):
        log.rewrite(BEFORE)
