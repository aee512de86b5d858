"""Releases that a section asks for and no bundle holds; ``test_candidate.py`` has the rest."""

from __future__ import annotations

from pathlib import Path

from edged.generation.release_checks import check_releases, check_rollout, check_states, model_path
from tests.fakes.site import Site


def test_what_is_asked_for_must_be_there(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.write("models:\n  m.x:\n    bundle: m\n    serve: 2\n    aliases: {old: 1}\n")
    snapshot = site.load()
    config = snapshot.config.models["m.x"]
    assert not check_releases(snapshot, "m.x", config, {1, 2})
    (said,) = check_releases(snapshot, "m.x", config, {1, 3})
    assert (said.path, said.line) == ('models["m.x"].serve', 7)
    assert "release 2 is in none of the bundles; they hold: 1, 3" in said.message
    (said,) = check_releases(snapshot, "m.x", config, {2})
    assert said.path == 'models["m.x"].aliases.old'
    assert model_path("m", "bundle") == "models.m.bundle"
    assert not check_rollout(snapshot, "m.x", {})
    assert not check_states(snapshot, "m.x", {})
