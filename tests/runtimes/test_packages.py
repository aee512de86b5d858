"""Entry points of installed packages, by group and name."""

from __future__ import annotations

from pathlib import Path

from edged.runtimes.packages import offered
from tests.fakes.packages import write_package


def test_every_package_of_a_name_is_found_and_none_is_imported(tmp_path: Path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path / "a")
    monkeypatch.syspath_prepend(tmp_path / "b")
    for letter in "ab":
        body = "raise SystemExit('imported')"
        points = {"same": f"pack_{letter}:Runtime", letter: f"pack_{letter}:Runtime"}
        write_package(tmp_path / letter, f"pack_{letter}", body, points, group="edged.test-group")
    found = offered("edged.test-group")
    assert {name: len(entries) for name, entries in found.items()} == {"same": 2, "a": 1, "b": 1}
    assert offered("edged.no-group") == {}
