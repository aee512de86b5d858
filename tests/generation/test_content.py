"""The digest of a configuration is another as soon as anything that it names is."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.config.load import Snapshot, load
from edged.generation import content as module
from edged.generation.content import content_digest
from edged.store.seen import Look, Seen
from edged.store.unchanged import Unchanged
from tests.bundles import make_bundle
from tests.models import double


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    make_bundle(tmp_path / "a.edgb", double())
    (tmp_path / "edged.yaml").write_text(
        "node: a\ntrust: {require_signatures: false}\nmodels:\n  gate: {bundle: a.edgb}\n"
    )
    return load(tmp_path / "edged.yaml")


def test_known_bundles_say_the_same_as_those_that_are_read(
    snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A digest is kept on disk: what was rejected stays so, whoever read the bundle before."""
    kept: Unchanged[Look] = Unchanged(now_ns=lambda: 2**62)
    seen = Seen(kept)
    monkeypatch.setattr(module, "SEEN", seen)
    first = content_digest(snapshot)
    assert len(kept) == 1
    monkeypatch.setattr(seen, "opened", None)
    assert content_digest(snapshot) == first


def test_another_for_each_change(snapshot: Snapshot) -> None:
    path = snapshot.root / "a.edgb"
    found = {content_digest(snapshot)}
    make_bundle(path, double(), release=2)
    found.add(content_digest(snapshot))
    path.write_bytes(path.read_bytes()[:-1])
    found.add(content_digest(snapshot))
    path.write_bytes(b"x")
    found.add(content_digest(snapshot))
    path.unlink()
    found.add(content_digest(snapshot))
    assert len(found) == 5
