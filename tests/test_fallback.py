"""What may stand in for a model: whole, trusted, and not what was tried already."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.candidate import Candidate, build_candidate
from edged.fallback import find_fallbacks, keep_fallbacks
from edged.serving.manager import Desired
from edged.store.repository import Repository
from tests.bundles import make_keys
from tests.fakes.site import Site

OURS = "trust: {keys: [ours.pub]}\n"
THEIRS = "trust: {keys: [theirs.pub]}\n"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path)
    for name in ("ours", "theirs"):
        make_keys(tmp_path, name)
    for release in (1, 2, 3):
        made.bundle("m", release, key=tmp_path / "ours.key")
    return made


@pytest.fixture
def repository(site: Site) -> Iterator[Repository]:
    """Release 2 serves, release 1 did before."""
    opened = site.repository()
    for release in (1, 2):
        item = wanted(site, opened, release).desired()[0]
        opened.activate("m", item.digest)
        opened.mark_good("m", item.digest)
    yield opened
    opened.close()


def wanted(site: Site, repository: Repository, release: int, trust: str = OURS) -> Candidate:
    site.write(f"models:\n  m: {{bundle: m-{release}.edgb}}\n", trust=trust)
    return build_candidate(site.load(), repository)


def numbers(found: dict[str, Desired]) -> dict[str, int]:
    return {name: item.stored.manifest.release for name, item in found.items()}


def test_the_current_release_goes_first(site: Site, repository: Repository) -> None:
    assert numbers(find_fallbacks(wanted(site, repository, 3), ["m"], repository)) == {"m": 2}


def test_what_was_tried_already_does_not_stand_in(site: Site, repository: Repository) -> None:
    assert numbers(find_fallbacks(wanted(site, repository, 2), ["m"], repository)) == {"m": 1}


def test_a_damaged_one_is_passed_over(site: Site, repository: Repository) -> None:
    current = repository.current("m")
    (site.state / f"store/{current}/manifest.json").write_text("{}")
    assert numbers(find_fallbacks(wanted(site, repository, 3), ["m"], repository)) == {"m": 1}


def test_nothing_for_models_without_a_past(site: Site, repository: Repository) -> None:
    candidate = wanted(site, repository, 3)
    assert find_fallbacks(candidate, [], repository) == {}
    site.write("models:\n  n: {bundle: n.edgb}\n")
    assert find_fallbacks(build_candidate(site.load(), repository), ["n"], repository) == {}


def test_a_key_that_was_taken_away(site: Site, repository: Repository) -> None:
    candidate = wanted(site, repository, 3, THEIRS)
    assert find_fallbacks(candidate, ["m"], repository) == {}


def test_keys_that_cannot_be_read_trust_nobody(site: Site, repository: Repository) -> None:
    candidate = wanted(site, repository, 3)
    (site.directory / "ours.pub").unlink()
    assert find_fallbacks(candidate, ["m"], repository) == {}


def test_one_that_serves_is_asked_again(site: Site, repository: Repository) -> None:
    serving = find_fallbacks(wanted(site, repository, 3), ["m"], repository)
    assert keep_fallbacks(wanted(site, repository, 1), serving, repository) == serving
    assert keep_fallbacks(wanted(site, repository, 1, THEIRS), serving, repository) == {}
    site.write("models: {}\n")
    without = build_candidate(site.load(), repository)
    assert keep_fallbacks(without, serving, repository) == {}
