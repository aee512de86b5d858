"""What is being written is no leftover: the cache's sweep waits, or leaves it alone."""

from __future__ import annotations

import os

import pytest

from edged.engines import folder as folder_module
from edged.engines.cache import EngineCache
from edged.engines.folder import locked, replace_file
from edged.store.slots import DIRECTORY_FLAGS


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "engines"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def fd(folder):
    fd = os.open(folder, DIRECTORY_FLAGS)
    yield fd
    os.close(fd)


def test_a_file_is_replaced_whole(folder, fd):
    replace_file(fd, "timings", [b"old"])
    replace_file(fd, "timings", [b"n", b"ew"])
    assert (folder / "timings").read_bytes() == b"new"
    assert [one.name for one in folder.iterdir()] == ["timings"]


@pytest.mark.parametrize("name", ["attempts.json", "timings"])
def test_a_sweep_meanwhile_takes_nothing_away(folder, fd, name, monkeypatch):
    cache = EngineCache(folder, 1 << 20)
    swept = []

    def sweep_now(*_):
        cache.collect((), None)
        swept.append([one.name for one in folder.iterdir()])

    monkeypatch.setattr(folder_module, "own_file", sweep_now)
    replace_file(fd, name, [b"x"])
    assert any(one.startswith(f".{name}-") for one in swept[0])
    assert (folder / name).read_bytes() == b"x"


def test_what_a_crash_left_is_swept(folder, fd):
    left = folder / ".timings-0123456789abcdef"
    left.touch()
    with locked(fd):
        assert EngineCache(folder, 1 << 20).collect((), None) == 0
        assert left.exists()
    EngineCache(folder, 1 << 20).collect((), None)
    assert not left.exists()
