"""Files that one command leaves for a later one: what is none is said, and never waited for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from msgspec import Struct

from converters.errors import ConversionError
from converters.records import read_record


class Note(Struct, forbid_unknown_fields=True):
    count: int


def read(path: Path) -> Note | None:
    return read_record(path, Note, 20, "a note", "write a new one")


def test_there_and_back(tmp_path: Path) -> None:
    assert read(tmp_path / "n.json") is None
    (tmp_path / "n.json").write_bytes(b'{"count": 3}')
    assert read(tmp_path / "n.json") == Note(3)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", r"n\.json: not a note of this version \(.*\); write a new one"),
        (b'{"count": "3"}', "not a note of this version"),
        (b'{"other": 3}', "not a note of this version"),
        (b'{"\xff": 3}', "not a note of this version"),
        (b"[" * 20, "not a note of this version"),
        (b'{"count": 3}' + b" " * 9, "over 20 bytes; is this a note"),
    ],
)
def test_what_is_none(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "n.json").write_bytes(data)
    with pytest.raises(ConversionError, match=words):
        read(tmp_path / "n.json")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "n.json")
    with pytest.raises(ConversionError, match="pipe"):
        read(tmp_path / "n.json")


def test_a_folder_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "n.json").mkdir()
    with pytest.raises(ConversionError, match="directory"):
        read(tmp_path / "n.json")
