"""A release is taken for whole only while its files are the ones that were compared."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest

from edged.errors import BundleError, IncompatibleError, SignatureError
from edged.store import intact as intact_module
from edged.store import repository as module
from edged.store.bundle import open_bundle
from edged.store.collecting import Needed, Usual
from edged.store.repository import Repository
from edged.store.seen import Seen, look_of
from edged.store.stored import StoredRelease
from edged.store.trust_store import TrustStore
from edged.store.unchanged import Unchanged
from tests.bundles import make_bundle
from tests.models import double


class Shop:
    """A store that has one bundle, and knows it: as if all of it had been at rest for long."""

    def __init__(self, path: Path, keys) -> None:
        self.trust = keys.trust
        self.path = make_bundle(path / "a.edgb", double(), key=keys.private)
        self.repository = Repository(path / "state")
        self.repository.open()
        self.take()
        self.release = self.take()

    def take(self) -> StoredRelease:
        return self.repository.import_bundle(self.path, self.trust)


@pytest.fixture
def shop(tmp_path: Path, keys, monkeypatch: pytest.MonkeyPatch):
    later = lambda: time.time_ns() + 10**11  # noqa: E731
    monkeypatch.setattr(module, "SEEN", Seen(Unchanged(now_ns=later)))
    monkeypatch.setattr(intact_module, "Unchanged", lambda: Unchanged(now_ns=later))
    shop = Shop(tmp_path, keys)
    yield shop
    shop.repository.close()


def test_not_looked_at_again(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shop.repository, "_is_kept", None)
    assert shop.take() == shop.release


def test_a_file_that_is_known_is_compared_with_the_store_unopened(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at the first change after a start: the store was written a moment before."""
    fresh = intact_module.Intact(shop.repository.state_dir / "store")
    monkeypatch.setattr(shop.repository, "_intact", fresh)
    monkeypatch.setattr(module.SEEN, "opened", None)
    assert shop.take() == shop.release
    monkeypatch.setattr(shop.repository, "_is_kept", None)
    assert shop.take() == shop.release


def test_but_who_signed_it_is_asked_each_time(shop: Shop) -> None:
    shop.trust = TrustStore({})
    with pytest.raises(SignatureError):
        shop.take()


def test_and_so_is_the_floor(shop: Shop) -> None:
    shop.repository.floors.set("gate", shop.release.manifest.release + 1)
    with pytest.raises(IncompatibleError, match="floor"):
        shop.take()


FILES, HARM = ("model.onnx", "manifest.json", "signatures.json"), ("gone", "cut", "a link")


@pytest.mark.parametrize(("name", "how"), [*itertools.product(FILES, HARM)][:-1])
def test_damage_is_noticed_and_mended(shop: Shop, name: str, how: str) -> None:
    file = shop.release.directory / name
    data = file.read_bytes()
    if how == "cut":
        file.write_bytes(data[:-1])
    elif how == "gone":
        file.unlink()
    else:
        file.rename(file.with_name("aside"))
        file.symlink_to("aside")
    assert shop.take() == shop.release
    assert file.read_bytes() == data
    assert shop.release.verify(shop.trust)


def test_signatures_that_became_a_link_are_refused(shop: Shop) -> None:
    file = shop.release.directory / "signatures.json"
    file.rename(file.with_name("aside"))
    file.symlink_to("aside")
    with pytest.raises(BundleError):
        shop.take()


def test_signatures_that_came_later(shop: Shop, tmp_path: Path, keys) -> None:
    bare = make_bundle(tmp_path / "bare", double())
    lax = TrustStore({}, required=False)
    for _ in range(3):
        assert shop.repository.import_bundle(bare, lax) == shop.release
    (shop.release.directory / "signatures.json").unlink()
    shop.repository.import_bundle(bare, lax)
    shop.repository.import_bundle(bare, lax)
    assert shop.take() == shop.release
    assert shop.release.verify(shop.trust) == (keys.signer.key_id,)


def test_and_whether_it_is_for_this_device(shop: Shop, tmp_path: Path, keys) -> None:
    path = make_bundle(
        tmp_path / "b.edgb", double(), release=2, key=keys.private, targets={"class": ("gate",)}
    )
    for _ in range(2):
        shop.repository.import_bundle(path, shop.trust, {"class": "gate"})
    with pytest.raises(IncompatibleError, match="class"):
        shop.repository.import_bundle(path, shop.trust, {"class": "desk"})


def test_one_that_is_asked_for_stays_until_that_is_decided(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that is not looked at: no collection in between takes it away."""
    collector, digest = shop.repository.collector, shop.release.digest
    collector.rules = Usual(keep=0)
    collector.in_use = lambda: Needed({digest}, ())
    collector.settle()
    monkeypatch.setattr(shop.repository, "_is_kept", None)
    shop.take()
    collector.in_use = lambda: Needed((), ())
    collector.collect()
    assert shop.repository.digests() == [digest]
    collector.settle()
    assert shop.repository.digests() == []


def test_what_changes_while_it_is_compared_is_not_taken_for_whole(shop: Shop) -> None:
    """Stamps from before are those of files that were compared; later ones may be of others."""
    intact = intact_module.Intact(shop.repository.state_dir / "store")
    digest, manifest = shop.release.digest, shop.release.manifest
    before = intact.stamps(digest, manifest)
    with open_bundle(shop.path) as bundle:
        changed = (*before[:-1], before[-1]._replace(size=1))
        for stamps, is_known in ((changed, False), ((), False), (before, True)):
            look = look_of(bundle)
            intact.note(look, stamps)
            assert (intact.find(look) is not None) == is_known
