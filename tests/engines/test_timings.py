"""TensorRT's timings come back to it only as this device wrote them."""

from __future__ import annotations

from edged.engines.seal import Seal
from edged.engines.timings import keep_timings, read_timings

SEAL = Seal(b"k" * 32)


def test_there_and_back(tmp_path):
    assert read_timings(tmp_path, SEAL) == b""
    assert read_timings(tmp_path / "none", SEAL) == b""
    keep_timings(tmp_path, SEAL, b"timed")
    keep_timings(tmp_path, SEAL, b"")
    assert read_timings(tmp_path, SEAL) == b"timed"
    assert [path.name for path in tmp_path.iterdir()] == ["timings"]
    assert (tmp_path / "timings").stat().st_mode & 0o777 == 0o600


def test_what_was_changed_or_is_anothers_is_left_out(tmp_path):
    keep_timings(tmp_path, SEAL, b"timed")
    assert read_timings(tmp_path, Seal(b"x" * 32)) == b""
    data = (tmp_path / "timings").read_bytes()
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1
        (tmp_path / "timings").write_bytes(changed)
        assert read_timings(tmp_path, SEAL) == b""
    (tmp_path / "timings").unlink()
    (tmp_path / "timings").symlink_to("elsewhere")
    assert read_timings(tmp_path, SEAL) == b""
