"""Half a file is nobody's configuration: who is still saving is waited for, and who is not is told."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest

from edged.errors import EdgedError
from edged.generation import rereading
from edged.generation.rereading import reread

GOOD = "node: a\ntrust: {require_signatures: false}\n"
BROKEN = "node: [\n"


def read(path: Path, changes=lambda: 0, *, is_writing: bool = False):
    return asyncio.run(reread(path, None, changes, lambda: is_writing))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "edged.yaml"


def test_what_is_whole_is_taken(path: Path):
    path.write_text(GOOD)
    snapshot = read(path)
    assert snapshot is not None
    assert snapshot.config.node == "a"


@pytest.mark.parametrize("text", [GOOD, BROKEN, "", None], ids=["good", "broken", "empty", "gone"])
def test_who_writes_is_waited_for(path: Path, text: str | None):
    if text is not None:
        path.write_text(text)
    assert read(path, is_writing=True) is None
    if text != GOOD:
        assert read(path, itertools.count().__next__) is None  # it was closed meanwhile


@pytest.mark.parametrize("text", ["", None], ids=["empty", "gone"])
def test_an_editor_between_two_steps(path: Path, text: str | None, monkeypatch: pytest.MonkeyPatch):
    """Nothing was heard of it, as while directories are watched anew: looked for again."""
    if text is not None:
        path.write_text(text)
    load, looks = rereading.load, itertools.count(1)

    def late(*at: Path):
        if next(looks) == 3:
            path.write_text(GOOD)
        return load(*at)

    monkeypatch.setattr(rereading, "load", late)
    monkeypatch.setattr(rereading, "_PAUSE_S", 0)
    snapshot = read(path)
    assert snapshot is not None
    assert next(looks) == 4


@pytest.mark.parametrize(
    ("text", "words", "looks"),
    [("", "says nothing", 21), (None, "No such file", 21), (BROKEN, "edged.yaml:", 1)],
    ids=["empty", "gone", "broken"],
)
def test_what_stays_wrong_is_said(
    path: Path, text: str | None, words: str, looks: int, monkeypatch: pytest.MonkeyPatch
):
    """What is broken at once, what is nothing after a second."""
    if text is not None:
        path.write_text(text)
    load, count = rereading.load, itertools.count()

    def counted(*at: Path):
        next(count)
        return load(*at)

    monkeypatch.setattr(rereading, "load", counted)
    monkeypatch.setattr(rereading, "_PAUSE_S", 0)
    with pytest.raises(EdgedError, match=words):
        read(path)
    assert next(count) == looks
