"""Which devices a bundle is for, and what the others say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edged.errors import ManifestError
from edged.generation.candidate import build_candidate, inspect_bundles
from edged.incoming.installing import install
from edged.manifest import canonical_json, parse_manifest
from edged.store.targets import NotForHereError, check_targets, device_words
from tests.bundles import make_manifest
from tests.fakes.site import Site
from tests.models import double


def manifest(**targets: Any) -> Any:
    fields = {"targets": {word: tuple(values) for word, values in targets.items()}}
    return make_manifest(double(), name="m", release=3, **(fields if targets else {}))[0]


@pytest.mark.parametrize(
    ("targets", "fits"),
    [
        ({}, True),
        ({"class": ["gate"]}, True),
        ({"class": ["door", "gate"], "site": ["nord"]}, True),
        ({"architecture": ["aarch64"]}, True),
        ({"class": ["door"]}, False),
        ({"class": ["gate"], "site": ["sued"]}, False),
        ({"colour": ["red"]}, False),
        ({"architecture": ["x86_64"]}, False),
    ],
)
def test_all_words_must_fit(targets: dict[str, Any], fits: bool) -> None:
    device = device_words({"class": "gate", "site": "nord"}, "arm64")
    if fits:
        check_targets(manifest(**targets), device)
        return
    with pytest.raises(NotForHereError, match="release 3 of m is for other devices: "):
        check_targets(manifest(**targets), device)


def test_the_words_say_what_is_here() -> None:
    device = device_words({"class": "gate"}, "x86_64")
    for targets, said in (
        ({"class": ["door", "lift"]}, "class door or lift; this device is gate [(]labels of"),
        ({"site": ["nord"]}, 'site nord; this device has no label "site" [(]labels of'),
        ({"architecture": ["aarch64"]}, "architecture aarch64; this device is x86_64$"),
    ):
        with pytest.raises(NotForHereError, match=said):
            check_targets(manifest(**targets), device)


def test_this_machine_knows_what_it_is() -> None:
    assert device_words({})["architecture"]


def test_older_bundles_keep_their_form_and_a_word_of_it_is_checked() -> None:
    assert b"targets" not in canonical_json(manifest())
    data = canonical_json(manifest(**{"class": ["gate"]}))
    assert parse_manifest(data).targets == {"class": ("gate",)}
    for bad in (b'{"Class":["gate"]}', b'{"class":[]}', b"{}", b'{"class":["a b"]}', b"null"):
        with pytest.raises(ManifestError):
            parse_manifest(data.replace(b'{"class":["gate"]}', bad))


@pytest.mark.hostile("G6 made for another device or a newer edged")
def test_is_refused_at_check_at_install_and_by_the_daemon(tmp_path: Path) -> None:
    site = Site(tmp_path)
    (tmp_path / "there").mkdir()
    file = site.bundle("m", 1, targets={"class": ("gate",)})
    for label, fits in (("door", False), ("gate", True)):
        site.write(f"labels: {{class: {label}}}\nmodels:\n  m: {{bundle: m-1.edgb}}\n")
        repository = site.repository()
        candidate = build_candidate(site.load(), repository)
        manifests, problems = inspect_bundles(site.load(), None, site.state)
        assert bool(manifests["m"]) is bool(candidate.desired()) is fits
        assert [str(one) for one in problems] == [str(one) for one in candidate.problems]
        assert bool(repository.digests()) is fits
        repository.close()
        if not fits:
            assert "edged.yaml:6:15: models.m.bundle: m-1.edgb: release 1 of m is for" in str(
                problems[0]
            )
        site.write(f"labels: {{class: {label}}}\nmodels:\n  m: {{bundle: 'there/m-*.edgb'}}\n")
        if fits:
            assert install(site.config, file, state_dir=site.state).endswith(
                "release 1 of m; NOT CHECKED WHO SIGNED IT (trust.require_signatures)"
            )
        else:
            with pytest.raises(NotForHereError, match="class gate; this device is door"):
                install(site.config, file, state_dir=site.state)
    # The label is changed back: what is stored, and serves, is not for here any more.
    site.write("labels: {class: door}\nmodels:\n  m: {bundle: m-1.edgb}\n")
    repository = site.repository()
    (problem,) = build_candidate(site.load(), repository).problems
    repository.close()
    assert "is for other devices" in problem.message
