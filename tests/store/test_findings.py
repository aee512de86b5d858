"""What was found out about releases lies in three folders and goes with its release."""

from __future__ import annotations

from pathlib import Path

from edged.store.contests import Held
from edged.store.findings import Findings


def test_each_has_its_folder_and_forgets(tmp_path: Path):
    found, gone, stays = Findings.of(tmp_path), "a" * 64, "b" * 64
    for digest in (gone, stays):
        found.measured.note(digest, "here", ((1, 5),))
        found.footprints.note(digest, "here", (2, 1, 0))
        found.contests.note(digest, "here", Held(()))
    folders = ("contests", "footprints", "measured")
    assert sorted(path.name for path in tmp_path.iterdir()) == list(folders)
    found.forget([stays])
    for name in folders:
        assert [path.name for path in (tmp_path / name).iterdir()] == [f"{stays}.json"]
