"""What memory a release takes outlives the process; a damaged note is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.store.footprints import Footprints

A = "a" * 64


def test_outlives_the_process(tmp_path: Path):
    Footprints(tmp_path / "footprints").note(A, "s", (30, 20, 0))
    fresh = Footprints(tmp_path / "footprints")
    assert fresh.get(A, "s") == (30, 20, 0)
    assert fresh.get(A, "another runtime") is None
    assert fresh.get("b" * 64, "s") is None


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b'{"s": []}', b'{"s": [1, 2]}', b'{"s": [1, 2, 3]}', b'{"s": [3, -2, 1]}',
     b'{"s": [9e30, 1, 1]}', b'{"s": [3, 2, 1, 0]}', b'{"s": null}'],
)  # fmt: skip
def test_a_damaged_note_is_none(tmp_path: Path, data: bytes):
    (tmp_path / f"{A}.json").write_bytes(data)
    assert Footprints(tmp_path).get(A, "s") is None
