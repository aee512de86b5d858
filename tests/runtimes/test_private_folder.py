"""Verified bytes as files that nobody else can replace."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from edged.errors import LoadError
from edged.runtimes.private_folder import private_folder


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_files_of_ours_alone_and_gone_afterwards(tmp_path: Path):
    mask = os.umask(0)
    try:
        with private_folder({"a.onnx": b"x" * 100_000, "b": b""}, "m") as path:
            folder = Path(path)
            assert folder.parent == tmp_path
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            assert {one.name: one.read_bytes() for one in folder.iterdir()} == {
                "a.onnx": b"x" * 100_000, "b": b"",
            }  # fmt: skip
            assert {stat.S_IMODE(one.stat().st_mode) for one in folder.iterdir()} == {0o600}
    finally:
        os.umask(mask)
    assert not list(tmp_path.iterdir())


def test_gone_after_a_failure(tmp_path: Path):
    with pytest.raises(ValueError, match="so"), private_folder({"a": b"x"}, "m"):
        raise ValueError("so")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["../a", "/etc/a", "a/b", "", ".", "..", "a\0b"])
def test_names_that_are_none(tmp_path: Path, name: str):
    with pytest.raises(LoadError, match="no plain file name"), private_folder({name: b""}, "m"):
        pass
    assert not list(tmp_path.iterdir())


def test_no_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with (
        pytest.raises(LoadError, match=r'model "m": its 1 MiB cannot be written .*TMPDIR'),
        private_folder({"a": b""}, 'model "m"'),
    ):
        pass
