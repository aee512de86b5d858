"""A bundle file is read once, and again as soon as it is another, however it is dressed up."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from edged.errors import BundleError
from edged.store import seen as module
from edged.store.bundle import read_manifest
from edged.store.seen import Glance, Look, Seen
from edged.store.unchanged import Unchanged
from tests.bundles import make_bundle
from tests.models import double


@pytest.fixture
def seen() -> Seen:
    """As if every file had been at rest for long."""
    kept: Unchanged[Look] = Unchanged(now_ns=lambda: time.time_ns() + 10**11)
    return Seen(kept)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "a.edgb", double(), release=1)


def test_read_once(seen: Seen, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert seen.known(bundle) is None
    digest = seen.digest(bundle)
    monkeypatch.setattr(module, "open_bundle", None)
    assert seen.digest(bundle) == digest
    look = seen.known(bundle)
    assert look is not None
    assert (look.manifest_bytes, look.manifest, look.signatures) == read_manifest(bundle)


def test_a_fresh_file_is_read_again(bundle: Path) -> None:
    seen = Seen()
    seen.digest(bundle)
    assert seen.known(bundle) is None


@pytest.mark.parametrize("how", ["in place", "moved over it", "a link that moves"])
def test_another_bundle_of_the_same_size_and_time(
    seen: Seen, tmp_path: Path, bundle: Path, how: str
) -> None:
    path = tmp_path / "link" if how == "a link that moves" else bundle
    if path != bundle:
        path.symlink_to(bundle)
    other = make_bundle(tmp_path / "b.edgb", double(), release=2)
    before = bundle.stat()
    assert other.stat().st_size == before.st_size
    first = seen.digest(path)
    assert seen.known(path) is not None
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    if how == "in place":
        while bundle.stat().st_ctime_ns == before.st_ctime_ns:
            shutil.copyfile(other, bundle)
            os.utime(bundle, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif path == bundle:
        other.replace(bundle)
    else:
        path.unlink()
        path.symlink_to(other)
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert seen.digest(path) != first


def test_broken_ones_are_not_kept(seen: Seen, tmp_path: Path) -> None:
    path = tmp_path / "a.edgb"
    path.write_bytes(b"no bundle")
    for _ in range(2):
        with pytest.raises(BundleError):
            seen.digest(path)
        assert seen.known(path) is None
    path.unlink()
    assert seen.known(path) is None
    assert seen.known(Path("a\0b")) is None


def test_what_is_exchanged_while_it_is_read_is_not_kept_under_its_name(
    seen: Seen, tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked at, exchanged, read, and exchanged back: what was read is another file's."""
    other = make_bundle(tmp_path / "b.edgb", double(), release=2)
    first, second = Seen().digest(bundle), Seen().digest(other)
    real = module.open_bundle
    monkeypatch.setattr(module, "open_bundle", lambda _path: real(other))
    assert seen.digest(bundle) == second
    monkeypatch.setattr(module, "open_bundle", real)
    assert seen.known(bundle) is None
    assert seen.digest(bundle) == first


def test_a_glance_looks_once(
    seen: Seen, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen.digest(bundle)
    glance = Glance(seen)
    look = glance.known(bundle)
    assert look is not None
    assert look == seen.known(bundle)
    assert not glance.is_known(tmp_path / "none")
    monkeypatch.setattr(seen, "known", None)
    assert glance.is_known(bundle)
    assert not glance.is_known(tmp_path / "none")


def test_the_next_glance_sees_what_changed(seen: Seen, bundle: Path) -> None:
    seen.digest(bundle)
    bundle.chmod(0)
    assert not Glance(seen).is_known(bundle)
