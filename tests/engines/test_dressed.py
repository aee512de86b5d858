"""A release with its engines: one more model file for TensorRT, nothing else changed."""

from __future__ import annotations

import pytest

from edged.engines.cache import EngineCache
from edged.engines.dressed import Dressed, dress
from edged.engines.sources import wishes
from edged.errors import BundleError, IncompatibleError
from edged.manifest import _check
from edged.runtimes.engine import sha256
from tests.fakes.site import Site
from tests.runtimes.test_engine import HOST, engine


@pytest.fixture
def stored(tmp_path):
    site = Site(tmp_path)
    bundle = site.bundle("m", 1)
    repository = site.repository()
    from edged.store.trust_store import TrustStore

    yield repository.import_bundle(bundle, TrustStore.from_files([], 1, False))
    repository.close()


def test_the_engine_is_a_file_more(stored):
    [wish] = wishes(stored.manifest, stored.digest)
    dressed = Dressed(stored, [(wish, b"an engine")], HOST)
    *before, added = dressed.manifest.artefacts
    assert tuple(before) == stored.manifest.artefacts
    assert (added.runtime, added.precision) == ("tensorrt", wish.entry.precision)
    assert dressed.read_member(added.file) == b"an engine"
    assert dressed.artefact("tensorrt") == b"an engine"
    assert dressed.artefact("tensorrt", added.precision) == b"an engine"
    assert dressed.artefact("onnx") == stored.artefact("onnx")
    assert dressed.sidecars(added) == {}
    member = dressed.manifest.members[-1]
    assert (member.type, member.size, member.sha256) == ("tensorrt", 9, sha256(b"an engine"))
    assert dressed.manifest.provenance["engines"][added.file]["host"]["gpu"] == HOST.gpu
    _check(dressed.manifest)
    assert stored.manifest.artefacts == tuple(before), "the bundle is as it was"


def test_it_is_held_against_what_its_model_file_is_held_against(stored):
    [wish] = wishes(stored.manifest, stored.digest)
    dressed = Dressed(stored, [(wish, b"an engine")], HOST)
    added = dressed.manifest.artefacts[-1]
    assert dressed.manifest.golden_of(added) == stored.manifest.golden_of(wish.entry)
    ours, theirs = dressed.golden(added), stored.golden(wish.entry)
    assert ours is not None
    assert theirs is not None
    assert [list(part) for part in ours] == [list(part) for part in theirs]


def test_what_is_not_there_is_said_by_the_bundle(stored):
    [wish] = wishes(stored.manifest, stored.digest)
    dressed = Dressed(stored, [(wish, b"an engine")], HOST)
    with pytest.raises(IncompatibleError):
        dressed.artefact("tensorrt", "int8")
    with pytest.raises(BundleError):
        dressed.read_member("elsewhere")


def test_without_an_engine_for_this_host_it_stays_as_it_is(stored, tmp_path):
    cache = EngineCache(tmp_path / "engines", 1 << 20)
    found = wishes(stored.manifest, stored.digest)
    assert dress(stored, found, cache, HOST) is stored
    cache.keep(found[0].source, engine(), "m")
    assert dress(stored, found, cache, HOST) is stored, "its own head names another model"
    assert cache.refused == {"other": 1}
