"""Files of one entry a line."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.errors import FieldError
from edged.pipelines import lines
from edged.pipelines.lines import read_lines


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", []),
        (b"a", ["a"]),
        (b"a\nb\n", ["a", "b"]),
        (b"a\r\n\xc3\xbc\r\n", ["a", "ü"]),
        (b"a\n\n b\n\n", ["a", "", " b", ""]),
    ],
)
def test_lines(tmp_path: Path, data: bytes, found: list[str]):
    (tmp_path / "some.txt").write_bytes(data)
    assert read_lines(tmp_path / "some.txt", "some.file") == found


@pytest.mark.parametrize(
    ("data", "words"),
    [(None, "cannot read .*No such file"), (b"\xff", "not UTF-8"), (b"12345", "more than 4 bytes")],
)
def test_what_is_no_such_file(
    tmp_path: Path, data: bytes | None, words: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(lines, "_MOST_BYTES", 4)
    if data is not None:
        (tmp_path / "some.txt").write_bytes(data)
    with pytest.raises(FieldError, match=words) as caught:
        read_lines(tmp_path / "some.txt", "some.file")
    assert caught.value.path == "some.file"
