"""What a thread makes of a change is what the loop would have found, and it is forgotten there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from edged.checks.budget import budgets_of
from edged.config.load import Snapshot
from edged.generation import asked
from edged.generation.asked import let_go, look_at
from edged.generation.candidate import Candidate, build_candidate
from edged.generation.followed import followed_paths
from edged.store.repository import Repository
from tests.fakes.site import Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path)
    return made.write(f"models: {{double: {{bundle: {made.bundle('double')}}}}}\n")


@pytest.fixture
def repository(site: Site) -> Iterator[Repository]:
    opened = site.repository()
    yield opened
    opened.close()


def in_effect(snapshot: Snapshot) -> Candidate:
    return Candidate(snapshot, {})


def test_look(site: Site, repository: Repository) -> None:
    snapshot = site.load()
    before = followed_paths(snapshot, site.state)
    found = look_at(snapshot, in_effect(snapshot), before, repository)
    assert [item.key.model for item in found.candidate.desired()] == ["double"]
    assert found.candidate.desired() == build_candidate(snapshot, repository).desired()
    assert found.budgets == budgets_of(snapshot.config)
    assert found.changes == 0
    assert found.paths is before  # so that whoever watches them need not compare


def test_what_is_changed(site: Site, repository: Repository) -> None:
    first = site.load()
    before = followed_paths(first, site.state)
    site.write(f"models: {{double: {{bundle: {site.bundle('double', 2)}}}}}\n")
    found = look_at(site.load(), in_effect(first), before, repository)
    assert found.changes == 1
    assert found.paths == [site.directory / "double-2.edgb"] != before


def test_what_is_left_is_forgotten_in_pieces(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    gone: list[int] = []
    rests: list[int] = []

    class Part:
        def __del__(self) -> None:
            gone.append(threading.get_ident())

    releases = {f"m{n}": cast("Any", (Part(),)) for n in range(100)}
    made = [Candidate(site.load(), releases)]
    del releases
    monkeypatch.setattr(asked, "breathe", lambda: rests.append(len(gone)))
    thread = threading.Thread(target=let_go, args=(made,))
    thread.start()
    thread.join()
    assert made == []
    assert len(gone) == 100
    assert set(gone) == {thread.ident}
    steps = [after - before for before, after in zip([0, *rests], rests, strict=False)]
    assert max(steps) <= 8
