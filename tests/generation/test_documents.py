"""Documents on disk: what a version was used for, and what comes back with a generation."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.config.documents import STATE, read_current
from edged.errors import ApplyError
from edged.faults import ERROR_VARIABLE
from edged.generation.documents import KEPT, Documents


@pytest.fixture
def documents(tmp_path: Path) -> Documents:
    return Documents(tmp_path / "desired")


def take(documents: Documents, version: int, text: str = "models: {}\n") -> None:
    documents.begin(version, f"sha{version}", text, "base")
    documents.take(version)
    documents.decide("accepted")


def files(documents: Documents, version: int) -> dict[str, bytes]:
    return {
        "edged.yaml": b"",
        str(documents.directory / f"version-{version:08d}.yaml"): b"models: {}\n",
    }


def test_a_version_is_used_before_anything_is_built(documents: Documents) -> None:
    take(documents, 3)
    documents.begin(5, "sha5", "models: {n: 1}\n", "base")
    state = documents.state()
    assert (state.seen, state.current) == (5, 3)
    assert state.verdict is not None
    assert (state.verdict.what, state.verdict.tries, state.verdict.base) == ("trying", 1, "base")
    again = documents.begin(5, "sha5", "models: {n: 1}\n", "base")
    assert again.tries == 2
    documents.decide("rejected", ("x" * 1000,) * 100)
    verdict = documents.state().verdict
    assert verdict is not None
    assert (verdict.what, len(verdict.problems), len(verdict.problems[0])) == ("rejected", 50, 400)
    assert (documents.state().current, documents.read(5)) == (3, "models: {n: 1}\n")


def test_it_goes_back_with_its_generation(documents: Documents) -> None:
    take(documents, 3)
    documents.begin(5, "sha5", "models: {n: 1}\n", "base")
    documents.take(5)
    documents.trying = 5
    (documents.directory / "version-00000003.yaml").unlink()
    documents.follow(files(documents, 3), "it was worse")
    state = documents.state()
    assert (state.seen, state.current, documents.trying) == (5, 3, 0)
    assert state.verdict is not None
    assert (state.verdict.what, state.verdict.problems) == ("returned", ("it was worse",))
    assert read_current(documents.directory) is not None
    documents.follow({"edged.yaml": b""}, "to none")
    assert documents.state().current == 0


def test_an_accepted_one_goes_back_too(documents: Documents) -> None:
    take(documents, 3)
    documents.decide("accepted")
    documents.follow({"edged.yaml": b""}, "an operator went back")
    verdict = documents.state().verdict
    assert verdict is not None
    assert (verdict.what, verdict.problems) == ("returned", ("an operator went back",))


def test_an_accepted_empty_one_stays_accepted(documents: Documents) -> None:
    documents.begin(4, "sha4", "", "base")
    documents.take(4)
    documents.decide("accepted")
    documents.follow({"edged.yaml": b""}, "an operator went back")
    verdict = documents.state().verdict
    assert verdict is not None
    assert verdict.what == "accepted"


def test_an_operator_removes_it(documents: Documents) -> None:
    assert not documents.order_removal()
    documents.settle_removal()
    take(documents, 3)
    assert documents.order_removal()
    assert read_current(documents.directory) is None  # at once, whether a daemon runs or not
    documents.settle_removal()
    state = documents.state()
    assert (state.seen, state.current) == (3, 0)
    assert state.verdict is not None
    assert state.verdict.what == "removed"
    take(documents, 4)
    assert read_current(documents.directory) is not None


def test_old_ones_go(documents: Documents) -> None:
    for version in range(1, KEPT + 5):
        take(documents, version)
    assert len(list(documents.directory.glob("version-*"))) <= KEPT + 2
    assert read_current(documents.directory) is not None


def test_damage_lets_nothing_in(documents: Documents) -> None:
    take(documents, 3)
    (documents.directory / STATE).write_bytes(b"{")
    for work in (
        lambda: documents.begin(1, "s", "", "b"),
        lambda: documents.take(1),
        documents.state,
    ):
        with pytest.raises(ApplyError, match="damaged"):
            work()


def test_a_disk_that_fails(documents: Documents, monkeypatch: pytest.MonkeyPatch) -> None:
    take(documents, 3)
    for step in ("desired.before", "desired.written"):
        monkeypatch.setenv(ERROR_VARIABLE, step)
        with pytest.raises(OSError, match="Input/output"):
            documents.begin(4, "sha4", "models: {n: 1}\n", "base")
        assert (documents.state().seen, documents.state().current) == (3, 3)
