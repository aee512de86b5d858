"""What may stand in for a model: whole, trusted, and not what was tried already."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edged.generation.candidate import Candidate, build_candidate
from edged.generation.fallback import Fallbacks, find_fallbacks, keep_fallbacks, lost_models
from edged.manifest import Requires
from edged.runtimes.registry import create_runtime
from edged.serving.lifecycle import State
from edged.serving.manager import Desired, Manager
from edged.serving.router import Route
from edged.store.repository import Repository
from tests.bundles import make_keys
from tests.e2e.models import lying
from tests.fakes.clock import on_loop
from tests.fakes.loader import make_loader
from tests.fakes.site import Site
from tests.models import double

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


def test_one_for_a_newer_edged_is_passed_over(
    site: Site, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever went back to an edged from before had taken it with the newer one."""
    site.bundle("m", 3, key=site.directory / "ours.key", requires=Requires(edged="0.0.1"))
    newest = wanted(site, repository, 3).desired()[0]
    repository.activate("m", newest.digest)
    monkeypatch.setattr("edged.store.targets.__version__", "0.0.0")
    candidate = wanted(site, repository, 3)
    assert "needs edged 0.0.1 or newer" in candidate.problems[0].message
    assert newest.digest not in {
        one.digest for one in find_fallbacks(candidate, ["m"], repository).values()
    }


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


def one(state: State, *, quarantined: bool = False) -> Any:
    answers = state is State.READY
    return SimpleNamespace(state=state, number=1, is_quarantined=quarantined, answers=answers)


READY, FAILED = one(State.READY), one(State.FAILED)
LEFT_OUT = one(State.FAILED, quarantined=True)
ROUTES = {
    "ready": (Route("m", {1: READY}), False),
    "failed, and may be tried again": (Route("m", {1: FAILED}), False),
    "in quarantine": (Route("m", {1: LEFT_OUT}), True),
    "one in quarantine, another serves": (Route("m", {1: LEFT_OUT, 2: READY}), False),
    "one in quarantine, another failed": (Route("m", {1: LEFT_OUT, 2: FAILED}), True),
    "in quarantine, and stood in for": (Route("m", {1: LEFT_OUT}, fallback=READY), False),
    "in quarantine, and the stand-in failed": (Route("m", {1: LEFT_OUT}, fallback=FAILED), True),
    "the one to serve is in quarantine": (Route("m", {1: LEFT_OUT, 2: READY}, serve=1), True),
    "nothing loaded": (Route("m", {}), False),
}


@pytest.mark.parametrize("name", ROUTES)
def test_lost_models(name: str) -> None:
    route, is_lost = ROUTES[name]
    routes = {"m": route, "other": Route("other", {1: READY})}
    assert lost_models(routes) == (frozenset({"m"}) if is_lost else frozenset())


class TestFallbacks:
    @pytest.fixture
    def manager(self) -> Iterator[Manager]:
        loader = make_loader(lambda name: create_runtime(name, threads=1))
        made = Manager(loader, 0, lambda: None)
        yield made
        made.stop()
        made._thread.shutdown(wait=True)

    async def load(self, manager: Manager, candidate: Candidate) -> None:
        manager.want(candidate.desired())
        await manager.settled([item.key for item in candidate.desired()])

    @on_loop
    async def test_the_last_good_one_is_loaded(
        self, site: Site, repository: Repository, manager: Manager
    ) -> None:
        site.bundle("m", 3, lying(double(factor=4)), key=site.directory / "ours.key")
        candidate = wanted(site, repository, 3)
        await self.load(manager, candidate)
        assert manager.get(candidate.desired()[0].key).state is State.FAILED
        fallbacks = Fallbacks(manager, repository)
        await fallbacks.find(candidate)
        assert numbers(fallbacks.serving) == {"m": 2}
        assert manager.get(fallbacks.serving["m"].key).state is State.READY
        assert await fallbacks.kept(candidate) == fallbacks.serving
        assert await fallbacks.kept(wanted(site, repository, 3, THEIRS)) == {}

    @on_loop
    async def test_who_serves_as_asked_needs_none(
        self, site: Site, repository: Repository, manager: Manager
    ) -> None:
        candidate = wanted(site, repository, 3)
        await self.load(manager, candidate)
        fallbacks = Fallbacks(manager, repository)
        fallbacks.serving = find_fallbacks(candidate, ["m"], repository)
        await fallbacks.find(candidate)
        assert fallbacks.serving == {}
        assert [release.number for release in manager.releases()] == [3]

    def test_keeps_those_that_still_stand_in(
        self, site: Site, repository: Repository, manager: Manager
    ) -> None:
        fallbacks = Fallbacks(manager, repository)
        standing_in = find_fallbacks(wanted(site, repository, 3), ["m"], repository)
        stand_in = one(State.READY)
        fallbacks.keep(standing_in, {"m": Route("m", {3: FAILED}, fallback=stand_in)})
        assert fallbacks.serving == standing_in
        fallbacks.keep(standing_in, {"m": Route("m", {3: READY}, fallback=stand_in)})
        assert fallbacks.serving == {}

    @pytest.mark.parametrize("state", [State.FAILED, State.LOADING, State.WARMING])
    def test_keeps_one_whose_worker_is_being_started_again(
        self, site: Site, repository: Repository, manager: Manager, state: State
    ) -> None:
        fallbacks = Fallbacks(manager, repository)
        standing_in = find_fallbacks(wanted(site, repository, 3), ["m"], repository)
        fallbacks.keep(standing_in, {"m": Route("m", {3: FAILED}, fallback=one(state))})
        assert fallbacks.serving == standing_in
        fallbacks.keep(standing_in, {"m": Route("m", {3: READY}, fallback=one(state))})
        assert fallbacks.serving == {}
