"""``edged bundle gc`` in words, and what an install is told of the quota."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.collected import check_quota, collect, render
from edged.errors import ApplyError, IncompatibleError
from edged.history import Entry, History
from edged.store.bundle import read_manifest
from edged.store.signing import TrustStore
from tests.fakes.site import Site


def test_words():
    going = [{"model": "m", "release": 3, "digest": "ab" * 32, "size": 1234}]
    document = {"going": going, "staying": 2, "staying_bytes": 99}
    said = render(document, dry_run=True)
    assert said.splitlines()[1].split() == ["m", "3", "abababababab", "1234"]
    assert said.endswith("1 releases (1234 bytes) would go, 2 (99 bytes) stay")
    none = render({**document, "going": []}, dry_run=False)
    assert none == "0 releases (0 bytes) are gone, 2 (99 bytes) stay"


def test_no_daemon(tmp_path: Path):
    with pytest.raises(ApplyError, match="for administrators"):
        collect(str(tmp_path / "no.sock"), dry_run=True)


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
    with pytest.raises(IncompatibleError, match=r"release 2 of m has .* store\.max_bytes"):
        check_quota(site.state, site.load(), manifest)
