"""The store: imports and activations are whole or not there, also when the process is killed."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from edged.errors import BundleError, DigestMismatchError, IncompatibleError, SignatureError
from edged.faults import EXIT_STATUS, VARIABLE
from edged.manifest import Requires, canonical_json
from edged.store import slots as slots_module
from edged.store.activation import ATTEMPTS_CAP
from edged.store.repository import Repository
from edged.store.trust_store import TrustStore
from tests.bundles import make_bundle, make_manifest, write_bundle
from tests.models import double


class Shop:
    """A state directory and three releases to put into it."""

    def __init__(self, path: Path, keys) -> None:
        self.state = path / "state"
        self.keys = keys
        self.bundles = [
            make_bundle(path / f"{n}.edgb", double(factor=n + 2), release=n + 1, key=keys.private)
            for n in range(3)
        ]

    def open(self) -> Repository:
        repository = Repository(self.state)
        repository.open()
        return repository

    def filled(self, count: int) -> tuple[Repository, list[str]]:
        """An open repository in which ``count`` releases were active, one after the other."""
        repository = self.open()
        digests = [repository.import_bundle(b, self.keys.trust).digest for b in self.bundles]
        for digest in digests[:count]:
            repository.activate("gate", digest)
            repository.mark_good("gate", digest)
        return repository, digests

    def staging(self) -> list[Path]:
        return list((self.state / "staging").iterdir())


@pytest.fixture
def shop(tmp_path: Path, keys) -> Shop:
    return Shop(tmp_path, keys)


class TestImport:
    def test_layout_and_modes(self, shop: Shop):
        repository, digests = shop.filled(2)
        repository.close()
        for path in [shop.state, *shop.state.rglob("*")]:
            if not path.is_symlink():
                mode = path.stat().st_mode & 0o777
                assert mode == (0o700 if path.is_dir() else 0o600), path
        assert (shop.state / "slots" / "gate" / "current").resolve().name == digests[1]

    def test_twice_is_once(self, shop: Shop):
        repository = shop.open()
        first = repository.import_bundle(shop.bundles[0], shop.keys.trust)
        inode = (first.directory / "model.onnx").stat().st_ino
        assert repository.import_bundle(shop.bundles[0], shop.keys.trust) == first
        assert (first.directory / "model.onnx").stat().st_ino == inode
        assert repository.release(first.digest) == first
        repository.close()

    def test_known_digest_is_still_verified(self, shop: Shop):
        repository = shop.open()
        repository.import_bundle(shop.bundles[0], shop.keys.trust)
        with pytest.raises(SignatureError):
            repository.import_bundle(shop.bundles[0], TrustStore({}))
        repository.close()

    def test_signatures_that_came_later_are_kept(self, shop: Shop, tmp_path: Path):
        repository = shop.open()
        bare = make_bundle(tmp_path / "bare", double())
        lax = TrustStore({}, required=False)
        release = repository.import_bundle(bare, lax)
        signed = make_bundle(tmp_path / "signed", double(), key=shop.keys.private)
        assert repository.import_bundle(signed, shop.keys.trust) == release
        assert release.verify(shop.keys.trust) == (shop.keys.signer.key_id,)
        repository.close()

    @pytest.mark.parametrize("fault", ["key", "bit", "room", "disk"])
    @pytest.mark.hostile("G1 signed by an unknown key")
    def test_failure_leaves_nothing(self, shop: Shop, tmp_path: Path, monkeypatch, fault: str):
        """refused, only staging touched, staging removed."""
        repository = shop.open()
        path, trust = shop.bundles[0], shop.keys.trust
        if fault == "key":
            trust = TrustStore({})
        elif fault == "bit":
            manifest, files = make_manifest(double())
            golden = bytearray(files["golden.safetensors"])
            golden[-1] ^= 1
            files["golden.safetensors"] = bytes(golden)
            data = canonical_json(manifest)
            path = write_bundle(tmp_path / "bad", data, files, shop.keys.signer)
        elif fault == "room":
            monkeypatch.setattr("edged.store.bundle._RESERVE", 1e18)
        else:
            monkeypatch.setattr(os, "fsync", _broken_disk)
        with pytest.raises(BundleError):
            repository.import_bundle(path, trust)
        assert not shop.staging()
        assert not list((shop.state / "store").iterdir())
        monkeypatch.undo()
        repository.close()

    @pytest.mark.hostile("G6 made for another device or a newer edged")
    def test_needs_a_newer_edged(self, shop: Shop, tmp_path: Path):
        path = make_bundle(
            tmp_path / "new", double(), key=shop.keys.private, requires=Requires("99.0")
        )
        repository = shop.open()
        with pytest.raises(IncompatibleError, match=r"needs edged 99.0 or newer"):
            repository.import_bundle(path, shop.keys.trust)
        repository.close()

    @pytest.mark.parametrize("damage", ["flip", "gone", "manifest"])
    def test_importing_again_heals(self, shop: Shop, damage: str):
        repository = shop.open()
        release = repository.import_bundle(shop.bundles[0], shop.keys.trust)
        repository.close()
        path = release.directory / ("manifest.json" if damage == "manifest" else "model.onnx")
        if damage == "gone":
            path.unlink()
        else:
            data = path.read_bytes()
            path.write_bytes(data[:-1] + b"!")
        repository = shop.open()
        healed = repository.import_bundle(shop.bundles[0], shop.keys.trust)
        assert healed.artefact("onnx") == double(factor=2).data
        assert not shop.staging()
        repository.close()

    def test_from_several_threads(self, shop: Shop):
        repository = shop.open()
        found: list[str] = []

        def work(bundle: Path) -> None:
            found.append(repository.import_bundle(bundle, shop.keys.trust).digest)

        threads = [threading.Thread(target=work, args=[b]) for b in shop.bundles * 3]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(set(found)) == 3
        assert len(found) == 9
        assert len(list((shop.state / "store").iterdir())) == 3
        repository.close()


def _broken_disk(_fd: int) -> None:
    raise OSError(5, "Input/output error")


class TestActivate:
    def test_current_and_previous(self, shop: Shop):
        repository, (a, b, c) = shop.filled(3)
        assert (repository.current("gate"), repository.previous("gate")) == (c, b)
        repository.activate("gate", c)
        assert (repository.current("gate"), repository.previous("gate")) == (c, b)
        repository.activate("gate", b)
        assert (repository.current("gate"), repository.previous("gate")) == (b, c)
        assert (repository.current("other"), repository.previous("other")) == (None, None)
        assert (shop.state / "store" / a).is_dir()
        repository.close()

    def test_survives_reopening(self, shop: Shop):
        repository, (_, b, c) = shop.filled(3)
        repository.close()
        for _ in range(ATTEMPTS_CAP + 2):
            repository = shop.open()
            assert (repository.current("gate"), repository.previous("gate")) == (c, b)
            repository.close()

    def test_unknown_or_damaged(self, shop: Shop):
        repository, digests = shop.filled(1)
        with pytest.raises(BundleError, match="not in the store"):
            repository.activate("gate", "0" * 64)
        (shop.state / "store" / digests[1] / "model.onnx").unlink()
        with pytest.raises(BundleError, match="damaged"):
            repository.activate("gate", digests[1])
        assert repository.current("gate") == digests[0]
        repository.close()

    @pytest.mark.parametrize("name", ["../x", "a/b", "", "gate\n", "..", "a\0"])
    @pytest.mark.hostile("R11 a model name is a key and never a path")
    def test_hostile_model_name(self, shop: Shop, name: str):
        repository, digests = shop.filled(0)
        for act in (
            lambda: repository.activate(name, digests[0]),
            lambda: repository.mark_good(name, digests[0]),
            lambda: repository.current(name),
            lambda: repository.previous(name),
        ):
            with pytest.raises(BundleError, match="not a model's name"):
                act()
        assert not list((shop.state / "slots").iterdir())
        repository.close()

    def test_mark_good_writes_once(self, shop: Shop):
        repository, (a, *_) = shop.filled(1)
        size = (shop.state / "activation.log").stat().st_size
        repository.mark_good("gate", a)
        assert (shop.state / "activation.log").stat().st_size == size
        repository.close()


class TestStart:
    def test_one_daemon_a_directory(self, shop: Shop):
        repository = shop.open()
        with pytest.raises(BundleError, match="another edged"):
            shop.open()
        repository.close()
        shop.open().close()

    def test_cannot_be_made(self, tmp_path: Path):
        (tmp_path / "file").write_text("")
        with pytest.raises(BundleError, match="cannot be used"):
            Repository(tmp_path / "file" / "state").open()

    def test_stale_staging_is_removed(self, shop: Shop, tmp_path: Path):
        shop.open().close()
        kept = tmp_path / "kept"
        kept.mkdir()
        (kept / "precious").write_text("")
        (shop.state / "staging" / "old").mkdir()
        (shop.state / "staging" / "old" / "half").write_text("")
        (shop.state / "staging" / "file").write_text("")
        (shop.state / "staging" / "link").symlink_to(kept)
        shop.open().close()
        assert not shop.staging()
        assert (kept / "precious").exists()

    @pytest.mark.parametrize("how", ["gone", "manifest"])
    def test_damaged_current_goes_back_to_previous(self, shop: Shop, how: str):
        repository, (_, b, c) = shop.filled(3)
        repository.close()
        if how == "gone":
            shutil.rmtree(shop.state / "store" / c)
        else:
            (shop.state / "store" / c / "manifest.json").write_text("{}")
        repository = shop.open()
        assert (repository.current("gate"), repository.previous("gate")) == (b, None)
        repository.close()

    def test_nothing_valid_starts_with_nothing(self, shop: Shop):
        repository, _ = shop.filled(3)
        repository.close()
        shutil.rmtree(shop.state / "store")
        repository = shop.open()
        assert (repository.current("gate"), repository.previous("gate")) == (None, None)
        repository.close()

    def test_never_proven_is_set_aside_at_the_third_start(self, shop: Shop):
        repository, (a, b, _) = shop.filled(1)
        repository.activate("gate", b)
        repository.close()
        for _ in range(ATTEMPTS_CAP - 1):
            repository = shop.open()
            assert repository.current("gate") == b
            assert not repository.is_set_aside(b)
            repository.close()
        repository = shop.open()
        assert (repository.current("gate"), repository.previous("gate")) == (a, None)
        assert repository.is_set_aside(b)
        repository.activate("gate", b)
        assert not repository.is_set_aside(b)
        repository.close()

    def test_on_a_full_disk_an_activation_that_failed_is_undone_later(self, shop: Shop):
        """The disk had room for one of its two links, and none at the next start."""
        repository, (a, b, c) = shop.filled(2)
        link = os.symlink

        def refuse(target: str, name: str, **more: int) -> None:
            if is_full or name.startswith(".current"):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            link(target, name, **more)

        is_full = False
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "symlink", refuse)
            with pytest.raises(BundleError, match="No space"):
                repository.activate("gate", c)
            repository.close()
            is_full = True
            repository = shop.open()
            assert repository.current("gate") == b
            repository.close()
        repository = shop.open()
        assert (repository.current("gate"), repository.previous("gate")) == (b, a)
        repository.close()

    @pytest.mark.parametrize("tail", [b"garbage", b"\n\n", b"00000000 {}\n", b"\xff" * 100])
    def test_garbage_in_the_log(self, shop: Shop, tail: bytes):
        repository, (a, b, _) = shop.filled(2)
        repository.close()
        with (shop.state / "activation.log").open("ab") as file:
            file.write(tail)
        repository = shop.open()
        assert (repository.current("gate"), repository.previous("gate")) == (b, a)
        repository.close()
        assert tail not in (shop.state / "activation.log").read_bytes()


CODE = """
import sys
from pathlib import Path
from edged.store.repository import Repository
from edged.store.trust_store import TrustStore
state, bundle, public, act = sys.argv[1:]
repository = Repository(Path(state))
repository.open()
release = repository.import_bundle(Path(bundle), TrustStore.from_files([public]))
if act == "activate":
    repository.activate("gate", release.digest)
    repository.mark_good("gate", release.digest)
repository.close()
"""
RECOVER_STEPS = ["recover.log", "recover.counted", "recover.restored"]
IMPORT_STEPS = ["stage.model.onnx", "stage.golden.safetensors", "import.staged"]
IMPORTED_STEPS = ["import.renamed", "import.done"]
BEFORE_SWAP = [
    "log.appended", "activate.logged", "activate.slot", "link.previous", "linked.previous",
    "activate.previous",
]  # fmt: skip
SWAP_STEPS = ["link.current", "linked.current", "activate.current", "good.logged"]


def run(shop: Shop, bundle: Path, act: str, point: str) -> int:
    return subprocess.run(
        [sys.executable, "-c", CODE, shop.state, bundle, shop.keys.public, act],
        env=os.environ | {VARIABLE: point},
        timeout=60,
        check=False,
    ).returncode


@pytest.mark.hostile("G18 killed at each step of activation")
class TestKilledAtEachStep:
    """SIGKILL at each step of activation → old or new, wholly; staging empty after start."""

    @pytest.mark.parametrize("point", [*RECOVER_STEPS, *IMPORT_STEPS, *IMPORTED_STEPS])
    def test_import(self, shop: Shop, point: str):
        assert run(shop, shop.bundles[0], "import", point) == EXIT_STATUS
        repository = shop.open()
        assert not shop.staging()
        stored = list((shop.state / "store").iterdir())
        assert len(stored) == (1 if point in IMPORTED_STEPS else 0)
        for directory in stored:
            release = repository.release(directory.name)
            assert release.artefact("onnx") == double(factor=2).data
        assert repository.import_bundle(shop.bundles[0], shop.keys.trust).is_whole()
        repository.close()

    @pytest.mark.parametrize(
        "point", ["none", *IMPORT_STEPS, *IMPORTED_STEPS, *BEFORE_SWAP, *SWAP_STEPS]
    )
    def test_activate(self, shop: Shop, point: str):
        repository, (a, b, _) = shop.filled(2)
        repository.close()
        fresh = make_bundle(
            shop.state.parent / "fresh", double(factor=9), release=9, key=shop.keys.private
        )
        status = run(shop, fresh, "activate", point)
        assert status == (0 if point == "none" else EXIT_STATUS)
        repository = shop.open()
        pair = (repository.current("gate"), repository.previous("gate"))
        is_new = point in ("none", "linked.current", "activate.current", "good.logged")
        if is_new:
            assert pair[1] == b
            assert repository.release(pair[0]).manifest.release == 9
        else:
            assert pair == (b, a), "the slot behind must be the old one too"
        assert repository.release(pair[0]).artefact("onnx")
        assert not shop.staging()
        assert len(list((shop.state / "slots" / "gate").iterdir())) == 2
        repository.close()

    @pytest.mark.parametrize("point", [*RECOVER_STEPS, "link.current", "linked.current"])
    def test_going_back(self, shop: Shop, point: str):
        """Killed while a start goes back from a release that never proved itself."""
        repository, (a, b, _) = shop.filled(1)
        repository.activate("gate", b)
        repository.close()
        for _ in range(ATTEMPTS_CAP - 1):
            shop.open().close()
        assert run(shop, shop.bundles[2], "import", point) == EXIT_STATUS
        repository = shop.open()
        assert repository.current("gate") == a
        assert repository.is_set_aside(b)
        repository.close()

    def test_control_a_swap_in_two_steps_is_caught(self, shop: Shop, monkeypatch):
        """Negative control: removing the old link before writing the new one loses the slot."""
        repository, (_, _, c) = shop.filled(2)

        def careless(fd: int, name: str, digest: str) -> None:
            os.unlink(name, dir_fd=fd)
            raise KeyboardInterrupt  # the kill

        monkeypatch.setattr(slots_module, "_link", careless)
        with pytest.raises(KeyboardInterrupt):
            repository.activate("gate", c)
        assert None in (repository.current("gate"), repository.previous("gate"))
        repository.close()


def test_bundle_changed_between_verify_and_load(shop: Shop):
    repository, (a, *_) = shop.filled(1)
    path = shop.state / "store" / a / "model.onnx"
    path.write_bytes(double(factor=7).data)
    with pytest.raises(DigestMismatchError):
        repository.release(a).artefact("onnx")
    repository.close()
