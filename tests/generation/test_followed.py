"""Every file that a configuration names is followed, relative ones from its own place."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.config.load import load
from edged.generation.followed import followed_paths

UNSIGNED = "trust: {require_signatures: false}\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("models: {m: {bundle: m.edgb}}", ["m.edgb"]),
        ("models: {m: {bundle: [/b/m-*.edgb, n.edgb]}}", ["/b/m-*.edgb", "n.edgb"]),
        ("trust: {keys: [ours.pub]}", ["ours.pub"]),
        (
            "listen: {http: {port: 8443, tls: {cert: c.pem, key: k.pem, client_ca: a.pem}}}",
            ["c.pem", "k.pem", "a.pem"],
        ),
    ],
)
def test_what_is_named(tmp_path: Path, text: str, expected: list[str]) -> None:
    place = tmp_path / "edged.yaml"
    place.write_text(("" if "trust" in text else UNSIGNED) + text + "\n")
    snapshot = load(place)
    found = followed_paths(snapshot, tmp_path / "state")
    assert sorted(found) == sorted(tmp_path / name for name in expected)


def test_a_trust_document_is_followed_where_it_is_kept(tmp_path: Path) -> None:
    """The copies in the state directory are what is in effect once it was rotated."""
    place = tmp_path / "edged.yaml"
    place.write_text("trust: {root: root.trust}\n")
    found = followed_paths(load(place), tmp_path / "state")
    assert found[0] == tmp_path / "root.trust"
    assert found[1:]
    assert all(path.is_relative_to(tmp_path / "state") for path in found[1:])
