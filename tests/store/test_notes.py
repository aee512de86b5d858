"""What was noted outlives the process, and a disk that takes nothing stops nothing."""

from __future__ import annotations

import errno
import stat
from pathlib import Path
from typing import Any

import pytest

from edged.store import notes as module
from edged.store.measured import Measurements

A, B = "a" * 64, "b" * 64
SETTING = "onnxruntime 1.32.0, 2 threads, a board, 2 cores"
RUNS = ((1, 9_000), (2, 9_500), (4, 10_000))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "measured"


def test_outlives_the_process(directory: Path):
    Measurements(directory).note(A, SETTING, RUNS)
    fresh = Measurements(directory)
    assert fresh.get(A, SETTING) == RUNS
    assert fresh.get(A, "another power mode") == ()
    assert fresh.get(B, SETTING) == ()


def test_files_are_the_daemons_alone(directory: Path):
    Measurements(directory).note(A, SETTING, RUNS)
    (path,) = directory.iterdir()
    assert (stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(directory.stat().st_mode)) == (
        0o600, 0o700,
    )  # fmt: skip


def test_the_last_few_settings_are_kept(directory: Path):
    measured = Measurements(directory)
    for number in range(28):
        measured.note(A, f"mode {number}", RUNS)
    measured.note(A, "mode 5", RUNS[:1])
    fresh = Measurements(directory)
    kept = [number for number in range(28) if fresh.get(A, f"mode {number}")]
    assert kept == list(range(4, 28))
    measured.note(A, "one more", RUNS)
    assert Measurements(directory).get(A, "mode 4") == (), "the oldest goes first"
    assert fresh.get(A, "mode 5") == RUNS[:1]


def test_what_the_store_no_longer_has_is_forgotten(directory: Path):
    measured = Measurements(directory)
    measured.forget([])
    for digest in (A, B):
        measured.note(digest, SETTING, RUNS)
    Measurements(directory).forget([A])
    assert [path.name for path in directory.iterdir()] == [f"{A}.json"]


def test_a_disk_that_takes_nothing_keeps_nothing_from_working(
    directory: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    measured = Measurements(directory)
    monkeypatch.setattr(module.os, "open", refuse)
    measured.note(A, SETTING, RUNS)
    assert measured.get(A, SETTING) == RUNS, "it holds for the life of this process"


def test_a_link_is_not_written_through(directory: Path, tmp_path: Path):
    directory.mkdir()
    (tmp_path / "victim").write_text("mine")
    (directory / f".{A}.json.tmp").symlink_to(tmp_path / "victim")
    Measurements(directory).note(A, SETTING, RUNS)
    assert (tmp_path / "victim").read_text() == "mine"


def test_a_digest_never_leads_elsewhere(directory: Path):
    with pytest.raises(Exception, match="digest"):
        Measurements(directory).get("../../etc/passwd", SETTING)
