"""Floors: the old or the new one, whatever ends the process, and never lower by damage."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edged.errors import ApplyError, BundleError, IncompatibleError
from edged.store.floors import Floors
from tests.bundles import make_manifest
from tests.models import double

COPIES = ("floor.json", "floor-2.json")
STEPS = [f"floor.{name}" for name in COPIES]
SCRIPT = """
import sys; from pathlib import Path; from edged.store.floors import Floors
floors, number = Floors(Path(sys.argv[1])), int(sys.argv[3])
floors.rise({"m": number}) if sys.argv[2] == "rise" else floors.set("m", number)
"""


def test_none_is_there_at_first(tmp_path: Path):
    assert Floors(tmp_path).all() == {}
    assert Floors(tmp_path / "none").all() == {}


def test_they_rise_by_bundles_and_fall_by_operators_alone(tmp_path: Path):
    floors = Floors(tmp_path)
    assert floors.rise({"m": 3, "n": 1}) == {"m": 3, "n": 1}
    assert floors.rise({"m": 2, "n": 4}) == {"n": 4}
    assert Floors(tmp_path).all() == {"m": 3, "n": 4}
    floors.set("m", 1)
    assert floors.all() == {"m": 1, "n": 4}
    floors.set("n", 0)
    assert floors.all() == {"m": 1}


def test_one_that_rises_loses_no_other_while_files_cannot_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    floors = Floors(tmp_path)
    floors.rise({"m": 3})
    real, left = os.open, [4]

    def short(path: os.PathLike[str], *words: int, **more: int) -> int:
        if left[0] and Path(path).name in COPIES:
            left[0] -= 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return real(path, *words, **more)

    monkeypatch.setattr(os, "open", short)
    with pytest.raises(ApplyError, match="Too many open files"):
        floors.rise({"n": 4})
    left[0] = 0
    assert floors.all() == {"m": 3}


def test_what_is_below_is_refused(tmp_path: Path):
    floors = Floors(tmp_path)
    floors.rise({"m": 3})
    low, high, other = (
        make_manifest(double(), name=name, release=release)[0]
        for name, release in (("m", 2), ("m", 3), ("x", 1))
    )
    floors.check(high)
    floors.check(other)
    with pytest.raises(IncompatibleError, match=r"none before 3 .*edged bundle floor m@2"):
        floors.check(low)


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff" * 9, b'{"check":1,"floors":{"m":9}}', None])
@pytest.mark.parametrize("name", COPIES)
def test_a_damaged_copy_lowers_and_raises_nothing(tmp_path: Path, name: str, damage: bytes | None):
    floors = Floors(tmp_path)
    floors.rise({"m": 3})
    if damage is None:
        (tmp_path / name).unlink()
        (tmp_path / name).symlink_to("/dev/zero")
    else:
        (tmp_path / name).write_bytes(damage)
    assert floors.all() == {"m": 3}
    floors.rise({"m": 4})
    for copy in COPIES:
        (tmp_path / copy).unlink()
        assert floors.all() == ({"m": 4} if copy == COPIES[0] else {})


@pytest.mark.parametrize("name", ["../x", "", "a\0", "x" * 65])
def test_what_is_no_name(tmp_path: Path, name: str):
    with pytest.raises(BundleError, match="not a model's name"):
        Floors(tmp_path).set(name, 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("point", STEPS)
@pytest.mark.parametrize(("how", "number", "between"), [("rise", 5, 5), ("set", 1, 3)])
def test_killed_in_a_step(tmp_path: Path, point: str, how: str, number: int, between: int):
    floors = Floors(tmp_path)
    floors.rise({"m": 3})
    words = [sys.executable, "-c", SCRIPT, str(tmp_path), how, str(number)]
    environment = {**os.environ, "EDGED_FAULT_AT": point}
    assert subprocess.run(words, env=environment, check=False).returncode == 137
    assert floors.all() == {"m": between if point == STEPS[0] else number}


@pytest.mark.parametrize("point", STEPS)
def test_an_error_of_the_disk_in_a_step(
    tmp_path: Path, point: str, monkeypatch: pytest.MonkeyPatch
):
    floors = Floors(tmp_path)
    floors.rise({"m": 3})
    with monkeypatch.context() as patched:
        patched.setenv("EDGED_ERROR_AT", point)
        with pytest.raises(OSError, match="Input/output error"):
            floors.rise({"m": 5})
    assert floors.all() == {"m": 5}
    floors.set("m", 2)
    assert floors.all() == {"m": 2}
