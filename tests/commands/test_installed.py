"""Bundles that are listed and removed: what the configuration needs stays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edged.commands.installed import listed, remove, render_listed
from edged.errors import ApplyError, IncompatibleError, NotFoundError
from edged.store.keys import generate_key
from tests.bundles import make_bundle
from tests.models import double


@pytest.fixture
def box(tmp_path: Path) -> Path:
    (tmp_path / "bundles").mkdir()
    generate_key(tmp_path / "site")
    write(tmp_path, "")
    for release in (1, 2, 3):
        file = tmp_path / "bundles" / f"m-{release}.edgb"
        make_bundle(file, double(), name="m", release=release, key=tmp_path / "site.key")
    return tmp_path


def write(box: Path, more: str) -> None:
    (box / "edged.yaml").write_text(
        f"trust: {{keys: [site.pub]}}\nmodels:\n  m: {{bundle: bundles/m-*.edgb{more}}}\n"
    )


def there(box: Path) -> list[str]:
    return sorted(path.name for path in (box / "bundles").iterdir())


def test_the_list_says_which_is_chosen_and_who_signed(box: Path):
    document = listed(box)
    assert [(one["release"], one["chosen"]) for one in document] == [
        (3, True),
        (2, False),
        (1, False),
    ]
    assert all(len(one["signed_by"]) == 1 and not one["problem"] for one in document)
    assert "serves" not in render_listed(document), "the daemon may have refused it"
    write(box, ", serve: 2")
    assert [one["release"] for one in listed(box) if one["chosen"]] == [2]
    assert [one["role"] for one in listed(box)] == ["", "chosen", ""]
    write(box, ", rollout: {stable: 1, canary: {release: 3, trafficPercent: 10}}")
    assert [one["release"] for one in listed(box) if one["chosen"]] == [1]
    # Which of the two answers is the rollout's end's to say, and not the files'.
    assert [one["role"] for one in listed(box)] == ["canary", "", "stable"]
    shown = render_listed(listed(box))
    assert "chosen" not in shown
    assert shown.splitlines()[1].endswith("canary")
    write(box, ", rollout: {stable: 1, shadow: {release: 3}, ab: {weights: {1: 50, 2: 50}}}")
    assert [one["role"] for one in listed(box)] == ["shadow", "ab", "stable"]


def test_the_list_says_what_is_wrong_with_a_file(box: Path):
    (box / "bundles/m-4.edgb").write_bytes(b"no bundle")
    make_bundle(box / "bundles/m-5.edgb", double(), name="m", release=5)
    by_file = {Path(one["file"]).name: one["problem"] for one in listed(box)}
    assert by_file["m-4.edgb"]
    assert "signed by 0 of 1" in by_file["m-5.edgb"]
    assert by_file["m-3.edgb"] == ""
    assert "signed by 0 of 1" in render_listed(listed(box))


def test_one_that_nobody_needs_is_removed(box: Path):
    assert remove(box, "m", 1) == f"{box}/bundles/m-1.edgb is removed"
    assert there(box) == ["m-2.edgb", "m-3.edgb"]


@pytest.mark.parametrize(
    ("more", "release", "why"),
    [
        (", serve: 2", 2, "the configuration needs release 2"),
        (", aliases: {old: 1}", 1, "the configuration needs release 1"),
        (", rollout: {stable: 3, shadow: {release: 1}}", 1, "the configuration needs release 1"),
        ("", 3, "without it release 2 serves"),
    ],
)
def test_one_that_is_needed_stays(box: Path, more: str, release: int, why: str):
    write(box, more)
    with pytest.raises(IncompatibleError, match=why):
        remove(box, "m", release)
    assert len(there(box)) == 3


def test_the_newest_goes_if_asked_for_and_the_last_one_never(box: Path):
    remove(box, "m", 3, older=True)
    remove(box, "m", 2, older=True)
    with pytest.raises(IncompatibleError, match="the only one of m"):
        remove(box, "m", 1, older=True)
    assert there(box) == ["m-1.edgb"]


def test_one_that_is_not_there(box: Path):
    with pytest.raises(NotFoundError, match="they hold: 1, 2, 3"):
        remove(box, "m", 9)
    with pytest.raises(NotFoundError, match="the models are: m"):
        remove(box, "x", 1)


def test_a_folder_that_cannot_be_written(box: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("EDGED_ERROR_AT", "remove.unlinked")
    with pytest.raises(ApplyError, match="cannot be removed: Input/output error"):
        remove(box, "m", 1)


def test_killed_when_it_is_gone(box: Path):
    words = [sys.executable, "-m", "edged", "bundle", "remove", "m@1", "--config", str(box)]
    environment = {**os.environ, "EDGED_FAULT_AT": "remove.unlinked"}
    ended = subprocess.run(words, env=environment, check=False)
    assert (ended.returncode, there(box)) == (137, ["m-2.edgb", "m-3.edgb"])
