"""What runs take is kept by rows; a damaged note is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.store.measured import Measurements

A = "a" * 64
RUNS = ((1, 9_000), (2, 9_500), (4, 10_000))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "measured"


@pytest.mark.parametrize(
    "data",
    [
        b"", b"[]", b"{", b"\xff" * 40, b'{"s": []}', b'{"s": [[1]]}', b'{"s": [[2, 9]]}',
        b'{"s": [[1, 9], [1, 9]]}', b'{"s": [[1, 9], [4, 9], [2, 9]]}', b'{"s": [[1, 0]]}',
        b'{"s": [[1, -5]]}', b'{"s": [[1, "9"]]}', b"[" * 60_000, b'{"s": [[1, 9e30]]}',
    ],
)  # fmt: skip
def test_a_damaged_note_is_none(directory: Path, data: bytes):
    directory.mkdir()
    (directory / f"{A}.json").write_bytes(data)
    measured = Measurements(directory)
    assert measured.get(A, "s") == ()
    measured.note(A, "s", RUNS)
    assert Measurements(directory).get(A, "s") == RUNS
