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
from edged.generation.carried import InEffect
from edged.serving.lifecycle import ReleaseKey
from edged.store import repository as store_module
from edged.store.floors import Floors
from edged.store.repository import Repository
from edged.store.seen import Look, Seen
from edged.store.unchanged import Unchanged
from tests.bundles import make_keys
from tests.fakes.site import Site
from tests.models import double

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
        self.loaded: Callable[[ReleaseKey], bool] = lambda _key: True
        real = repository.import_bundle

        def import_bundle(path: Path, *args: Any, **words: Any) -> Any:
            self.taken.append(path.name)
            return real(path, *args, **words)

        monkeypatch.setattr(repository, "import_bundle", import_bundle)
        self.before = build_candidate(site.load(), repository)
        self.taken.clear()

    def write(self, a: str = "", b: str = "", more: str = "") -> Desk:
        self.site.write(MODELS.format(a, b) + more)
        return self

    def build(self, snapshot: Snapshot | None = None) -> Candidate:
        serving = InEffect(self.before, self.loaded)
        return build_candidate(snapshot or self.site.load(), self.repository, serving)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    seen = Seen(Unchanged[Look](now_ns=lambda: 2**62))
    monkeypatch.setattr(module, "SEEN", seen)
    monkeypatch.setattr(store_module, "SEEN", seen)
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
        lambda desk: setattr(desk, "loaded", lambda key: key.model != "a"),
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
        "floors", "not in memory", "unknown terms", "it was broken", "its key was retired",
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
