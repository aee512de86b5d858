"""The bundles of a generation that comes back: its own, or none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edged.config.snapshot import Kept, Snapshot
from edged.generation.candidate import build_candidate
from edged.generation.kept import is_there
from edged.store.repository import Repository
from tests.fakes.site import Site
from tests.generation.test_candidate import located
from tests.models import double


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def repository(site: Site) -> Iterator[Repository]:
    opened = site.repository()
    yield opened
    opened.close()


class TestKept:
    """A generation that comes back has its own bundles, or is refused."""

    @pytest.fixture
    def back(self, site: Site, repository: Repository) -> Snapshot:
        site.bundle("m", 1)
        site.write("models:\n  m: {bundle: 'm-*.edgb'}\n")
        (one,) = build_candidate(site.load(), repository).desired()
        return replace(site.load(), kept=Kept(7, "x", {"m": (one.digest,)}))

    def lost(self, back: Snapshot, repository: Repository) -> str:
        assert back.kept is not None
        (digest,) = back.kept.releases["m"]
        shutil.rmtree(repository.state_dir / "store" / digest)
        return digest

    def test_by_the_store(self, site: Site, repository: Repository, back: Snapshot) -> None:
        (site.directory / "m-1.edgb").unlink()
        site.bundle("m", 2)
        candidate = build_candidate(back, repository)
        assert not candidate.problems
        assert [one.stored.manifest.release for one in candidate.desired()] == [1]
        assert is_there(back, site.state)

    def test_by_a_file_with_the_same_contents(
        self, site: Site, repository: Repository, back: Snapshot
    ) -> None:
        digest = self.lost(back, repository)
        assert not is_there(back, site.state)
        (site.directory / "m-1.edgb").rename(site.directory / "m-9.edgb")
        site.bundle("m", 2)
        candidate = build_candidate(back, repository)
        assert not candidate.problems
        assert [one.digest for one in candidate.desired()] == [digest]

    @pytest.mark.parametrize("how", ["gone", "cut"])
    def test_never_by_other_contents(
        self, site: Site, repository: Repository, back: Snapshot, how: str
    ) -> None:
        if how == "gone":
            self.lost(back, repository)
        else:
            (path,) = (repository.state_dir / "store").glob("*/*.onnx")
            path.write_bytes(b"")
        (site.directory / "m-1.edgb").unlink()
        site.bundle("m", 2)
        site.bundle("m", 1, double(factor=9))
        candidate = build_candidate(back, repository)
        assert candidate.desired() == []
        (problem,) = candidate.problems
        located(problem, 5, "models.m.bundle")
        assert "generation 7 served it, and no file that the configuration" in problem.message
        assert "generation 7 served it" in candidate.broken["m"]

    @pytest.mark.parametrize("releases", [{}, {"m": ()}])
    def test_nor_where_it_had_none(
        self, repository: Repository, back: Snapshot, releases: dict[str, tuple[str, ...]]
    ) -> None:
        candidate = build_candidate(replace(back, kept=Kept(7, "x", releases)), repository)
        assert candidate.desired() == []
        assert "served no release of it" in candidate.broken["m"]
        assert len(candidate.problems) == 1
