"""A model of which nothing changed stands as it is; anything that could change it is looked at."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edged.config.snapshot import Kept, Snapshot
from edged.generation import candidate as module
from edged.generation.candidate import Candidate, build_candidate
from edged.store import intact
from edged.store import repository as store_module
from edged.store.floors import Floors
from edged.store.repository import Repository
from edged.store.seen import Look, Seen
from edged.store.trust_document import parse_trust
from edged.store.trust_state import TrustState
from edged.store.unchanged import Unchanged
from tests.bundles import make_keys
from tests.fakes.site import Site
from tests.models import double
from tests.trust import Ring

MODELS = "models: {{a: {{bundle: a-*.edgb{}}}, b: {{bundle: b-1.edgb{}}}}}\n"


class Desk:
    """Two models that serve, as if their files had been at rest for long."""

    def __init__(self, site: Site, repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
        self.site, self.repository = site, repository
        self.public = make_keys(site.directory)[1]
        self.private = make_keys(site.directory, "other")[0]
        for name in "ab":
            site.bundle(name)
        self.write()
        self.taken: list[str] = []
        real = repository.import_bundle

        def import_bundle(path: Path, *args: Any, **words: Any) -> Any:
            self.taken.append(path.name)
            return real(path, *args, **words)

        monkeypatch.setattr(repository, "import_bundle", import_bundle)
        self.before = build_candidate(site.load(), repository)
        self.before = self.build()  # the first one brought the bundles, this one found them whole
        self.taken.clear()

    def write(self, a: str = "", b: str = "", more: str = "") -> Desk:
        self.site.write(MODELS.format(a, b) + more)
        return self

    def stored(self, name: str) -> Path:
        return self.site.state / "store" / self.before.releases[name][0].digest

    def build(self, snapshot: Snapshot | None = None) -> Candidate:
        return build_candidate(snapshot or self.site.load(), self.repository, self.before)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    seen = Seen(Unchanged[Look](now_ns=lambda: 2**62))
    monkeypatch.setattr(module, "SEEN", seen)
    monkeypatch.setattr(store_module, "SEEN", seen)
    monkeypatch.setattr(intact, "Unchanged", lambda: Unchanged(now_ns=lambda: 2**62))
    site = Site(tmp_path)
    repository = site.repository()
    yield Desk(site, repository, monkeypatch)
    repository.close()


def test_what_nobody_changed_stands(desk: Desk) -> None:
    made = desk.write(b=", aliases: {x: 1}").build()
    assert desk.taken == ["b-1.edgb"]
    assert made.releases["a"] is desk.before.releases["a"]
    assert made.releases["b"][0].config.aliases == {"x": 1}
    desk.before = made
    assert desk.build().releases["b"] is made.releases["b"]
    assert desk.taken == ["b-1.edgb"]


def test_and_is_what_a_look_would_have_found(desk: Desk) -> None:
    made = desk.build()
    assert desk.taken == []
    assert made.desired() == build_candidate(desk.site.load(), desk.repository).desired()


@pytest.mark.parametrize(
    "change",
    [
        lambda desk: desk.write(a=", priority: high"),
        lambda desk: desk.site.bundle("a", 2),
        lambda desk: shutil.copy(desk.site.directory / "a-1.edgb", desk.site.directory / "a-2.edgb"),
        lambda desk: desk.site.bundle("a", key=desk.private),
        lambda desk: desk.write(more="labels: {site: nord}\n"),
        lambda desk: desk.site.config.write_text(
            desk.site.config.read_text().replace("signatures: false", f"signatures: false, keys: [{desk.public}]")
        ),
        lambda desk: Floors(desk.site.state).set("b", 1),
        lambda desk: (desk.stored("a") / "model.onnx").write_bytes(b"x"),
        lambda desk: shutil.rmtree(desk.stored("a")),
        lambda desk: setattr(desk, "before", replace(desk.before, terms=None)),
        lambda desk: setattr(desk, "before", replace(desk.before, broken={"a": "x"})),
        lambda desk: setattr(desk, "before", replace(desk.before, retired={"a": "x"})),
        lambda desk: setattr(
            desk, "before", replace(desk.before, problems=(desk.site.load().problem("", "x"),))
        ),
        lambda desk: setattr(
            desk, "before", replace(desk.before, snapshot=replace(desk.before.snapshot, root=Path("/")))
        ),
        lambda desk: setattr(
            desk,
            "before",
            replace(desk.before, snapshot=replace(desk.before.snapshot, kept=Kept(1, "", {}))),
        ),
    ],
    ids=[
        "its section", "a newer release", "a file more", "signed anew", "labels", "keys",
        "floors", "damage in the store", "gone from the store", "unknown terms", "it was broken", "its key was retired",
        "something was refused", "another folder", "a generation that came back",
    ],
)  # fmt: skip
def test_what_may_be_another_is_looked_at(desk: Desk, change: Callable[[Desk], object]) -> None:
    change(desk)
    desk.build()
    assert "a-1.edgb" in desk.taken


def test_a_floor_that_rose_refuses_it(desk: Desk) -> None:
    Floors(desk.site.state).set("a", 2)
    assert "below the floor" in desk.build().broken["a"]


def test_a_bundle_that_went_is_missed(desk: Desk) -> None:
    (desk.site.directory / "b-1.edgb").unlink()
    (problem,) = desk.build().problems
    assert "b-1.edgb" in problem.message


def test_a_generation_that_comes_back_has_its_own(desk: Desk) -> None:
    """Its bundles are those of the store, whatever its files hold by now."""
    digests = {name: (items[0].digest,) for name, items in desk.before.releases.items()}
    desk.site.bundle("b", 1, double(factor=9))
    back = replace(desk.site.load(), kept=Kept(1, "x", digests))
    made = desk.build(back)
    assert made.releases["b"][0].digest == digests["b"][0]
    assert made.releases["a"] is not desk.before.releases["a"]


def test_files_are_compared_by_what_they_said(desk: Desk) -> None:
    """Whoever made the configuration's digest has read an exchanged file before."""
    path = desk.site.bundle("a", key=desk.private)
    module.SEEN.digest(path)
    desk.build()
    assert desk.taken == ["a-1.edgb"]


def test_an_unsigned_copy_stands_for_no_signed_one(desk: Desk) -> None:
    """The store still has the signatures of the one before."""
    desk.site.bundle("a", key=desk.private)
    desk.before = desk.build()
    desk.before = desk.build()
    desk.taken.clear()
    module.SEEN.digest(desk.site.bundle("a"))
    desk.build()
    assert desk.taken == ["a-1.edgb"]


def test_one_that_was_read_twice_is_the_same(desk: Desk) -> None:
    path = desk.site.directory / "a-1.edgb"
    before = module.SEEN.known(path)
    with module.SEEN.opened(path):
        pass
    assert module.SEEN.known(path) is not before
    desk.build()
    assert desk.taken == []


def test_a_release_whose_file_went_goes_too(desk: Desk) -> None:
    path = desk.site.bundle("a", 2)
    desk.before = desk.build()
    path.unlink()
    made = desk.build()
    assert [item.stored.manifest.release for item in made.releases["a"]] == [1]


def test_damage_in_the_store_is_mended_by_any_change(desk: Desk) -> None:
    """The next start, or whatever loads the release again, would find it damaged."""
    member = desk.stored("a") / "model.onnx"
    whole = member.read_bytes()
    member.write_bytes(whole[:-1])
    desk.write(b=", priority: high").build()
    assert member.read_bytes() == whole


def test_a_retired_release_that_is_left_over_goes_with_its_slot(desk: Desk) -> None:
    """It was let in because its slot named it then; that is no term, and another is named since."""
    site, ring = desk.site, Ring(desk.site.directory)
    (site.directory / "site.trust").write_bytes(ring.signed(ring.document()))
    body = MODELS.format(", aliases: {}", "")
    site.write(body, trust="trust: {root: site.trust}\n")
    for name, number, key in (("a", 1, "a"), ("b", 1, "b"), ("a", 2, "b")):
        site.bundle(name, number, key=[ring[key]])
    for _ in range(2):
        first = build_candidate(site.load(), desk.repository).releases["a"][0].digest
    desk.repository.activate("a", first)
    TrustState(site.state).apply(parse_trust(ring.signed(ring.document(2, release="b"))))
    for _ in range(2):
        desk.before = build_candidate(site.load(), desk.repository)
    assert [item.stored.manifest.release for item in desk.before.releases["a"]] == [1, 2]
    assert not desk.before.retired  # the other one is what serves
    desk.repository.activate("a", desk.before.releases["a"][1].digest)
    assert [item.stored.manifest.release for item in desk.build().releases["a"]] == [2]
