"""The file of the activation log: what is in it after each step, and where the disk says no."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.store.activation import History, Record
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
    log.close()
    assert ActivationLog(root).read() == History({}, {}, damaged=1)


def test_a_link_in_its_place_is_not_followed(root: int, tmp_path: Path):
    (tmp_path / "activation.log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        ActivationLog(root).open()
    assert not (tmp_path / "elsewhere").exists()
