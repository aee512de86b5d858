"""What an install is told of the store's quota."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.errors import IncompatibleError
from edged.generation.entries import Entry
from edged.generation.history import History
from edged.incoming.quota import check_quota
from edged.store.bundle import read_manifest
from edged.store.trust_store import TrustStore
from tests.fakes.site import Site


def test_quota_of_an_install(tmp_path: Path):
    site = Site(tmp_path)
    first, second = site.bundle("m", 1), site.bundle("m", 2)
    manifest = read_manifest(second)[1]
    each = sum(member.size for member in manifest.members)
    models = "models:\n  m: {bundle: 'm-*.edgb'}\n"
    site.write(models)
    repository = site.repository()
    digest = repository.import_bundle(first, TrustStore({}, 1, required=False)).digest
    repository.close()
    History(site.state / "history").add(site.load(), Entry(1, "d", 1.0, releases={"m": [digest]}))
    check_quota(site.state, site.load(), manifest)
    site.write(f"store: {{max_bytes: {2 * each + 100}B}}\n{models}")
    check_quota(site.state, site.load(), manifest)
    site.write(f"store: {{max_bytes: {2 * each - 100}B}}\n{models}")
    with pytest.raises(IncompatibleError, match=r"release 2 of m has \d+ B, .* store\.max_bytes"):
        check_quota(site.state, site.load(), manifest)
