"""What serves, by the slots on the disk."""

from __future__ import annotations

from pathlib import Path

from edged.store.repository import Repository
from edged.store.serving import serving_digests, serving_releases
from edged.store.trust_store import TrustStore
from tests.bundles import make_bundle
from tests.models import double


def test_by_model(tmp_path: Path):
    state = tmp_path / "state"
    assert serving_digests(state) == {}
    repository = Repository(state)
    repository.open()
    try:
        path = make_bundle(tmp_path / "m.edgb", double(), name="m", release=3)
        digest = repository.import_bundle(path, TrustStore({}, 1, required=False)).digest
        assert serving_digests(state) == {}
        repository.activate("m", digest)
        assert serving_digests(state) == {"m": digest}
        assert [one.manifest.release for one in serving_releases(state)] == [3]
        # Of another model, or of what is not in the store: nothing serves by that.
        (state / "slots/m").rename(state / "slots/other")
        (state / "slots/n").mkdir()
        (state / "slots/n/current").symlink_to(f"../../store/{'0' * 64}")
        assert set(serving_digests(state)) == {"other", "n"}
        assert list(serving_releases(state)) == []
    finally:
        repository.close()
