"""Bundles that are installed: verified whole, or not there at all, whatever happens meanwhile."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edged.errors import (
    ApplyError,
    BundleError,
    ConfigError,
    EdgedError,
    IncompatibleError,
    SignatureError,
)
from edged.incoming import installing
from edged.incoming.installing import NoPlaceError, check_leap, install
from edged.manifest import Requires
from edged.store.floors import Floors
from edged.store.keys import generate_key
from edged.store.signing import Signer
from tests.bundles import make_bundle
from tests.hostile.test_bundles import custom
from tests.models import double
from tests.trust import Ring

POINTS = ("install.copied", "install.verified", "install.named")


@pytest.fixture
def box(tmp_path: Path) -> Path:
    (tmp_path / "bundles").mkdir()
    (tmp_path / "usb").mkdir()
    generate_key(tmp_path / "site")
    (tmp_path / "edged.yaml").write_text(
        "trust: {keys: [site.pub]}\nmodels:\n  m: {bundle: bundles/m-*.edgb}\n"
        "  single: {bundle: bundles/other.edgb}\n"
    )
    return tmp_path


def bundle(box: Path, release: int, *, signer: str = "site", name: str = "m", **more: object):
    file = box / "usb" / f"any name {release}.edgb"
    file.unlink(missing_ok=True)
    key = box / f"{signer}.key" if signer else None
    return make_bundle(file, double(**more), name=name, release=release, key=key)


def there(box: Path) -> list[str]:
    return sorted(path.name for path in (box / "bundles").iterdir())


def test_one_that_is_trusted_is_where_the_configuration_looks(box: Path):
    file = bundle(box, 3)
    said = install(box, file)
    assert said == f"{box}/bundles/m-3.edgb: release 3 of m"
    assert there(box) == ["m-3.edgb"]
    assert (box / "bundles/m-3.edgb").read_bytes() == file.read_bytes()
    info = (box / "bundles/m-3.edgb").stat()
    assert info.st_nlink == 1
    assert stat.S_IMODE(info.st_mode) == 0o644, "the daemon is another user"
    assert install(box, file).endswith("m-3.edgb is there already")


def test_where_nobody_need_have_signed_it_says_so(box: Path):
    config = box / "edged.yaml"
    config.write_text(
        config.read_text().replace("{keys: [site.pub]}", "{require_signatures: false}")
    )
    assert "NOT CHECKED WHO SIGNED IT" in install(box, bundle(box, 1, signer=""))


class TestRefused:
    """Nothing is left behind."""

    @pytest.fixture(autouse=True)
    def nothing_is_there(self, box: Path):
        yield
        assert not [name for name in there(box) if name != "m-5.edgb"]

    def test_unsigned_or_by_a_stranger(self, box: Path, monkeypatch: pytest.MonkeyPatch):
        generate_key(box / "stranger")
        monkeypatch.setattr("edged.incoming.installing._copy", None)  # nothing is written at all
        for signer in ("", "stranger"):
            with pytest.raises(SignatureError):
                install(box, bundle(box, 3, signer=signer))

    @pytest.mark.parametrize("what", ["floor", "trust"])
    def test_where_what_keeps_the_old_out_is_damaged(self, box: Path, what: str):
        """It is the device's fault: an inbox keeps the file until that is mended."""
        ring = Ring(box)
        (box / "site.trust").write_bytes(ring.signed(ring.document()))
        text = (box / "edged.yaml").read_text()
        (box / "edged.yaml").write_text(text.replace("keys: [site.pub]", "root: site.trust"))
        (box / "state").mkdir()
        for name in (f"{what}.json", f"{what}-2.json"):
            (box / "state" / name).write_bytes(b"")
        with pytest.raises(ApplyError, match="are damaged"):
            install(box, bundle(box, 3, signer="a"), state_dir=box / "state")

    @pytest.mark.parametrize(
        ("more", "said"),
        [
            ({"requires": Requires("99.0")}, "needs edged 99.0 or newer"),
            ({"targets": {"class": ("gate",)}}, "class"),
        ],
    )
    def test_what_its_first_bytes_say_against_it(
        self, box: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any], said: str
    ):
        monkeypatch.setattr("edged.incoming.installing._copy", None)  # nothing is written at all
        file = make_bundle(
            box / "usb/m.edgb", double(), name="m", release=3, key=box / "site.key", **more
        )
        with pytest.raises(IncompatibleError, match=said):
            install(box, file)

    def test_one_that_the_store_could_not_take(self, box: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("edged.incoming.installing._copy", None)
        config = box / "edged.yaml"
        config.write_text(config.read_text() + "store: {max_bytes: 100B}\n")
        with pytest.raises(IncompatibleError, match=r"more than store\.max_bytes"):
            install(box, bundle(box, 3))

    def test_anything_new_under_a_document_that_expired(
        self, box: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr("edged.generation.trusted.is_synchronised", lambda: True)
        monkeypatch.setattr("edged.incoming.installing._copy", None)
        ring = Ring(box)
        document = ring.document(issued="2020-01-01", expires="2020-02-02")
        (box / "site.trust").write_bytes(ring.signed(document))
        text = (box / "edged.yaml").read_text()
        (box / "edged.yaml").write_text(text.replace("keys: [site.pub]", "root: site.trust"))
        with pytest.raises(EdgedError, match="expired on 2020-02-02"):
            install(box, bundle(box, 3, signer="a"), state_dir=box / "state")

    def test_a_model_that_asks_for_a_library(self, box: Path):
        """What the daemon would refuse to load has no name before."""
        key = box / "site.key"
        file = make_bundle(box / "usb/m.edgb", custom(), name="m", release=3, key=key)
        with pytest.raises(EdgedError, match=r"my\.library"):
            install(box, file)

    def test_a_flipped_byte(self, box: Path):
        file = bundle(box, 3)
        data = bytearray(file.read_bytes())
        data[data.index(b"Mul")] ^= 1
        file.write_bytes(data)
        with pytest.raises(EdgedError, match=r"sha256|checksum|CRC"):
            install(box, file)

    def test_a_short_file_or_none(self, box: Path):
        file = bundle(box, 3)
        file.write_bytes(file.read_bytes()[:-100])
        for path in (file, box / "nowhere.edgb", box / "usb"):
            with pytest.raises(EdgedError):
                install(box, path)

    def test_a_model_that_nobody_asked_for(self, box: Path):
        with pytest.raises(ConfigError, match='no model "x" is configured; the models are: m, s'):
            install(box, bundle(box, 1, name="x"))

    def test_a_name_that_no_pattern_takes(self, box: Path):
        with pytest.raises(
            ConfigError, match=r"single-1.edgb is no file that models.single.bundle"
        ):
            install(box, bundle(box, 1, name="single"))

    def test_an_older_one_and_a_number_used_twice(self, box: Path):
        install(box, bundle(box, 5))
        with pytest.raises(IncompatibleError, match="is older than release 5, which is there"):
            install(box, bundle(box, 4))
        with pytest.raises(BundleError, match="release number is never used twice"):
            install(box, bundle(box, 5, factor=3))

    def test_one_below_the_floor(self, box: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("STATE_DIRECTORY", str(box))
        Floors(box).rise({"m": 4})
        for older in (False, True):
            with pytest.raises(IncompatibleError, match="below the floor"):
                install(box, bundle(box, 3), older=older)

    def test_a_folder_that_is_not_there(self, box: Path):
        (box / "bundles").rmdir()
        with pytest.raises(BundleError, match=r"cannot write to .*bundles: No such file.*mkdir -p"):
            install(box, bundle(box, 3))
        (box / "bundles").mkdir()

    def test_a_full_disk(self, box: Path, monkeypatch: pytest.MonkeyPatch):
        class Full:
            f_bavail, f_frsize, f_flag = 0, 4096, 0

        monkeypatch.setattr("edged.incoming.installing.os.statvfs", lambda _: Full)
        with pytest.raises(
            IncompatibleError, match=r"has 0 B free; this bundle needs \d KiB; make room"
        ):
            install(box, bundle(box, 3))


def test_an_older_one_on_purpose(box: Path):
    install(box, bundle(box, 5))
    install(box, bundle(box, 4), older=True)
    assert there(box) == ["m-4.edgb", "m-5.edgb"]


@pytest.mark.parametrize("point", POINTS)
def test_killed_in_a_step_leaves_the_old_or_the_new(box: Path, point: str):
    file = bundle(box, 3)
    words = [sys.executable, "-m", "edged", "bundle", "install", str(file), "--config", str(box)]
    ended = subprocess.run(words, env={**os.environ, "EDGED_FAULT_AT": point}, check=False)
    assert ended.returncode == 137
    whole = box / "bundles" / "m-3.edgb"
    assert whole.exists() == (point == "install.named")
    if whole.exists():
        assert whole.read_bytes() == file.read_bytes()
    assert [name for name in there(box) if not name.startswith(".install-")] in ([], ["m-3.edgb"])
    again = subprocess.run(words, check=True, capture_output=True, text=True)
    assert "m-3.edgb" in again.stdout
    assert whole.read_bytes() == file.read_bytes()
    install(box, bundle(box, 4))
    assert there(box) == ["m-3.edgb", "m-4.edgb"], "what was left is removed"


def test_one_that_is_signed_by_another_key_takes_the_place_of_the_same(box: Path):
    """Else a key could be retired, and nothing be done for what it had signed."""
    file = bundle(box, 3)
    install(box, file)
    generate_key(box / "next")
    config = box / "edged.yaml"
    config.write_text(config.read_text().replace("site.pub", "next.pub"))
    with pytest.raises(SignatureError):
        install(box, file)
    again = bundle(box, 3, signer="next")
    said = install(box, again)
    assert said == f"{box}/bundles/m-3.edgb: release 3 of m, signed by others than before"
    assert (box / "bundles/m-3.edgb").read_bytes() == again.read_bytes()
    assert there(box) == ["m-3.edgb"]
    assert install(box, again).endswith("m-3.edgb is there already")
    config.write_text(config.read_text().replace("next.pub", "next.pub, site.pub"))
    assert install(box, file).endswith("is there already"), "both are trusted, and one is enough"
    both = make_bundle(
        box / "usb/both", double(), name="m", release=3,
        key=[Signer.from_file(box / f"{name}.key") for name in ("site", "next")],
    )  # fmt: skip
    assert "signed by others than before" in install(box, both)
    assert install(box, again).endswith("is there already"), "no signature is lost"


@pytest.mark.parametrize(
    ("known", "release", "most", "is_refused"),
    [
        (0, 2**32 - 1, 1_000_000, False),  # the first one says how they are numbered
        (3, 1_000_003, 1_000_000, False), (3, 1_000_004, 1_000_000, True),
        (3, 2**32 - 1, 0, False), (3, 2**32 - 1, 2**33, False), (3, 12, 10, False),
        (3, 14, 10, True), (20261128, 20270101, 1_000_000, False), (3, 20261128, 1_000_000, True),
        (1_790_000_000, 1_800_000_000, 1_000_000, False),
        (1_790_000_000, 2**32 - 1, 1_000_000, True), (5, 2, 1, False),
    ],
)  # fmt: skip
def test_how_far_a_number_may_leap(known: int, release: int, most: int, *, is_refused: bool):
    manifest = SimpleNamespace(release=release, name="m")
    refused = pytest.raises(IncompatibleError, match=r"far above .* --leap")
    with refused if is_refused else contextlib.nullcontext():
        check_leap(manifest, known, most)  # type: ignore[arg-type]


def test_a_mistake_is_not_installed_unless_on_purpose(box: Path):
    install(box, bundle(box, 5))
    mistake = bundle(box, 2**32 - 1)
    with pytest.raises(IncompatibleError, match=r"release 4294967295 of m is far above release 5"):
        install(box, mistake)
    assert install(box, mistake, leap=True).endswith("release 4294967295 of m")


def test_a_floor_says_how_far_numbers_are_where_no_file_is_left(box: Path):
    state = box / "state"
    state.mkdir(exist_ok=True)
    Floors(state).set("m", 7)
    with pytest.raises(IncompatibleError, match="far above release 7"):
        install(box, bundle(box, 2**32 - 1), state_dir=state)


@pytest.mark.parametrize("what", ["an older release", "half a file"])
def test_a_name_that_something_else_has(box: Path, what: str):
    """It was said to be there already, and the inbox threw the new one away."""
    config = box / "edged.yaml"
    config.write_text(config.read_text().replace("m-*.edgb", "m.edgb"))
    install(box, bundle(box, 3))
    there = box / "bundles/m.edgb"
    if what == "half a file":
        there.write_bytes(there.read_bytes()[:1000])
    kept = there.read_bytes()
    with pytest.raises(NoPlaceError, match=r"m.edgb is there and holds .*; no file is ever repl"):
        install(box, bundle(box, 4))
    assert there.read_bytes() == kept


def test_a_folder_that_somebody_locks_for_good(box: Path, monkeypatch: pytest.MonkeyPatch):
    """Any user who may read it can; the inbox, and the daemon's end, do not wait for that."""
    monkeypatch.setattr(installing, "_LOCK_S", 0.2)
    held = os.open(box / "bundles", os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(NoPlaceError, match="somebody holds its lock"):
            install(box, bundle(box, 3))
    finally:
        os.close(held)
    assert install(box, bundle(box, 3)).endswith("release 3 of m")


def test_a_file_that_is_changed_while_it_is_copied(box: Path, monkeypatch: pytest.MonkeyPatch):
    file, other = bundle(box, 3), box / "other.edgb"
    shutil.move(bundle(box, 9), other)
    file = bundle(box, 3)
    from edged.incoming import installing

    copy = installing._copy
    monkeypatch.setattr(installing, "_copy", lambda _file, folder: copy(other, folder))
    with pytest.raises(BundleError, match="was changed while it was copied"):
        install(box, file)
    assert there(box) == []


def test_what_has_its_name_is_on_the_disk(box: Path, monkeypatch: pytest.MonkeyPatch):
    """The copy is synced before it gets its name, and the folder after it; cuts of the power say so
    too, which not every machine can have (tests/chaos/store.py)."""
    steps: list[str] = []
    sync = os.fsync

    def synced(fd: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "copy")
        assert (steps[-1] == "folder") == (box / "bundles/m-3.edgb").exists()
        sync(fd)

    monkeypatch.setattr(os, "fsync", synced)
    install(box, bundle(box, 3))
    assert steps == ["copy", "folder"]
