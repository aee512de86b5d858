from __future__ import annotations

from pathlib import Path

import pytest

from edged.device.sysfs import CAP_BYTES, first_int, matching, read_int, read_text, scaled


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"42\n", 42), (b"-7", -7), (b"", None), (b"4.2", None), (b"0x10", None), (b"\xff", None)],
)
def test_read_int(tmp_path: Path, content: bytes, expected: int | None):
    path = tmp_path / "value"
    path.write_bytes(content)
    assert read_int(path) == expected


def test_unreadable_is_unknown(tmp_path: Path):
    assert read_text(tmp_path / "absent") is None
    assert read_text(tmp_path) is None  # a folder


def test_kernel_that_refuses_the_read_is_unknown():
    # A real kernel file whose read fails: a process's memory at address 0.
    assert read_text(Path("/proc/self/mem")) is None


def test_device_tree_string_loses_its_nul(tmp_path: Path):
    (tmp_path / "model").write_bytes(b"Board\x00")
    assert read_text(tmp_path / "model") == "Board"


def test_long_file_is_read_in_part(tmp_path: Path):
    (tmp_path / "long").write_bytes(b"x" * (CAP_BYTES + 1))
    assert len(read_text(tmp_path / "long") or "") == CAP_BYTES


def test_scaled_keeps_unknown_unknown():
    assert scaled(None, 1e-3) is None
    assert scaled(0, 1e-3) == 0.0


def test_matching_is_in_natural_order(tmp_path: Path):
    for name in ("zone10", "zone2", "zone1", "other"):
        (tmp_path / name).touch()
    assert [p.name for p in matching(tmp_path, "zone*")] == ["zone1", "zone2", "zone10"]
    assert matching(tmp_path / "absent", "*") == []


def test_first_int_skips_what_has_none(tmp_path: Path):
    (tmp_path / "b").write_text("5")
    assert first_int([tmp_path / "a", tmp_path / "b"]) == 5
    assert first_int([]) is None
