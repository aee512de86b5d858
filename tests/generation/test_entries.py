"""What the folders of generations say, read once and told as long as they are those files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from edged.generation import entries as module
from edged.generation.entries import Entries, Entry
from edged.store.unchanged import Unchanged


@pytest.fixture
def entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Entries:
    """As if every file had been at rest for long."""
    monkeypatch.setattr(module, "Unchanged", lambda: Unchanged(now_ns=lambda: 2**62))
    for number in (2, 1):
        write(tmp_path, number, {"m": [f"{number}"], "n": ["0"]})
    return Entries(tmp_path)


def write(directory: Path, number: int, releases: dict[str, list[str]]) -> Path:
    folder = directory / f"{number:08d}"
    folder.mkdir(exist_ok=True)
    entry = Entry(number, f"d{number}", 1.0, "files", releases)
    (folder / "entry.json").write_bytes(msgspec.json.encode(entry))
    return folder / "entry.json"


def numbers(entries: Entries) -> list[int]:
    return [one.generation for one in entries.all()]


def test_each_is_read_once(entries: Entries, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Any] = []
    real = module.decoding.decode
    monkeypatch.setattr(
        module.decoding, "decode", lambda *words: read.append(words) or real(*words)
    )
    assert numbers(entries) == [1, 2]
    assert entries.pinned() == ({"m", "n"}, {"0", "1", "2"})
    assert numbers(entries) == [1, 2]
    assert len(read) == 2


def test_but_again_once_it_is_another(entries: Entries, tmp_path: Path) -> None:
    assert numbers(entries) == [1, 2]
    write(tmp_path, 1, {"m": ["9"]})
    assert entries.pinned().digests == {"0", "2", "9"}
    write(tmp_path, 2, {}).write_text("{")
    assert numbers(entries) == [1]
    (tmp_path / "00000001/entry.json").unlink()
    assert numbers(entries) == []
    assert entries.pinned() == (set(), set())


def test_what_is_needed_is_not_known_while_one_cannot_be_read(
    entries: Entries, tmp_path: Path
) -> None:
    """Nothing leaves the store then: it would not be there for the way back."""
    file = tmp_path / "00000003/entry.json"
    file.mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        entries.pinned()


def test_none_where_there_is_no_folder(tmp_path: Path) -> None:
    entries = Entries(tmp_path / "none")
    assert numbers(entries) == []
    assert entries.pinned() == (set(), set())
