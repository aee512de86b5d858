"""Floors: the old or the new one, whatever ends the process, and never lower by damage."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.errors import ApplyError, BundleError, IncompatibleError
from edged.store.floors import BelowFloorError, Floors, FloorsLostError
from edged.store.repository import Repository, StoredRelease
from edged.store.trust_store import TrustStore
from tests.bundles import make_bundle, make_manifest
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


def test_that_there_are_some_is_noted_also_where_none_rises(tmp_path: Path):
    """A cut came before it was, or an edged wrote them that noted nothing."""
    floors = Floors(tmp_path)
    floors.rise({})
    assert not (tmp_path / "written").exists()
    floors.rise({"m": 3})
    (tmp_path / "written/floor").unlink()
    floors.rise({"m": 3})
    for name in COPIES:
        (tmp_path / name).unlink()
    with pytest.raises(FloorsLostError, match="are gone"):
        floors.all()


def test_what_is_below_is_refused(tmp_path: Path):
    floors = Floors(tmp_path)
    floors.rise({"m": 3})
    low, high, other = (
        make_manifest(double(), name=name, release=release)[0]
        for name, release in (("m", 2), ("m", 3), ("x", 1))
    )
    floors.check(high, "")
    floors.check(other, "")
    with pytest.raises(
        IncompatibleError, match=r"or an operator said .*none before 3 .*edged bundle floor m@2"
    ):
        floors.check(low, "")


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
    (tmp_path / COPIES[0]).unlink()
    assert floors.all() == {"m": 4}


class TestLost:
    """No copy can be read: nothing is taken but what serves, and nothing is written over them."""

    @pytest.fixture
    def releases(self, tmp_path: Path) -> Iterator[list[StoredRelease]]:
        """Releases 1 to 3 of m; 2 serves."""
        repository = Repository(tmp_path / "state")
        repository.open()
        found = [
            repository.import_bundle(
                make_bundle(tmp_path / f"{n}.edgb", double(factor=n), name="m", release=n),
                TrustStore({}, 1, required=False),
            )
            for n in (1, 2, 3)
        ]
        repository.activate("m", found[1].digest)
        repository.floors.rise({"m": 1, "x": 7})
        yield found
        repository.close()

    def damaged(self, tmp_path: Path, *damage: bytes | None) -> Floors:
        for name, data in zip(COPIES, damage, strict=True):
            (tmp_path / "state" / name).unlink()
            if data is None:
                (tmp_path / "state" / name).symlink_to("/dev/null")
            elif data != b"gone":
                (tmp_path / "state" / name).write_bytes(data)
        return Floors(tmp_path / "state")

    @pytest.mark.parametrize(
        "damage",
        [(b"", b"{}"), (b"gone", b"x"), (b"x", b"gone"), (None,) * 2, (b"gone", b"gone")],
    )
    def test_nothing_but_what_serves(
        self, tmp_path: Path, releases: list[StoredRelease], damage: tuple[bytes | None, ...]
    ):
        floors, (old, serving, new) = self.damaged(tmp_path, *damage), releases
        floors.check(serving.manifest, serving.digest)
        with pytest.raises(BelowFloorError, match=r"are (damaged|gone)"):
            floors.check(old.manifest, old.digest)
        other = make_manifest(double(), name="x", release=9)[0]
        for manifest, digest in ((new.manifest, new.digest), (serving.manifest, "?"), (other, "")):
            with pytest.raises(FloorsLostError, match="edged bundle floor --from-serving"):
                floors.check(manifest, digest)
        before = [path.lstat() for path in sorted((tmp_path / "state").glob("floor*.json"))]
        for change in (lambda: floors.rise({"m": 9}), lambda: floors.set("m", 1)):
            with pytest.raises(FloorsLostError):
                change()
        assert before == [path.lstat() for path in sorted((tmp_path / "state").glob("floor*.json"))]

    def test_until_they_are_set_anew(self, tmp_path: Path, releases: list[StoredRelease]):
        floors = self.damaged(tmp_path, b"", b"")
        floors.set_by_serving()
        assert floors.all() == {"m": 2}
        floors.check(releases[2].manifest, releases[2].digest)
        floors.set("m", 1)
        floors.check(releases[0].manifest, releases[0].digest)
        floors.set("x", 8)
        floors.set_by_serving()
        assert floors.all() == {"m": 2, "x": 8}, "one that is higher stays"

    @pytest.mark.usefixtures("releases")
    def test_gone_with_all_that_was_noted_they_are_as_on_a_new_device(self, tmp_path: Path):
        """Whoever can remove all files of the state can write them, too."""
        floors = self.damaged(tmp_path, b"gone", b"gone")
        (tmp_path / "state/written/floor").unlink()
        assert floors.all() == {}
        Floors(tmp_path).set_by_serving()
        assert Floors(tmp_path).all() == {}

    @pytest.mark.parametrize("number", [0, 2])
    def test_what_serves_is_damaged_too(
        self, tmp_path: Path, releases: list[StoredRelease], number: int
    ):
        """Its number is not known, and none at all would let every older release in again."""
        floors = self.damaged(tmp_path, b"", b"")
        (releases[1].directory / "manifest.json").write_bytes(b"{}")
        with pytest.raises(ApplyError, match="bundle floor --from-serving m@RELEASE"):
            floors.set_by_serving({"x": 1})
        with pytest.raises(FloorsLostError):
            floors.all()
        floors.set_by_serving({"m": number, "x": 8})
        assert floors.all() == ({"m": 2, "x": 8} if number else {"x": 8})


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


def test_those_of_a_moment_stay_as_they_were(tmp_path: Path):
    floors, manifest = Floors(tmp_path), make_manifest(double())[0]
    before = floors.now()
    floors.set(manifest.name, manifest.release + 1)
    before.check(manifest, "d")
    with pytest.raises(BelowFloorError):
        floors.now().check(manifest, "d")


def test_that_they_cannot_be_read_is_said_of_each_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    floors, manifest = Floors(tmp_path), make_manifest(double())[0]
    floors.set(manifest.name, 1)

    def short(*words: object, **more: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", short)
        now = floors.now()
    for _ in range(2):
        with pytest.raises(ApplyError, match="Too many open files"):
            now.check(manifest, "d")
