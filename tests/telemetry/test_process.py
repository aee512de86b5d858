"""The kernel's figures: plausible here, and None where it gives none."""

from __future__ import annotations

import os
import time
from pathlib import Path

from edged.telemetry.process import read_process, resident_bytes


def test_of_this_process():
    figures = read_process()
    assert (figures.resident_bytes or 0) > 1 << 20
    assert figures.cpu_s > 0
    assert 3 <= (figures.open_fds or 0) <= figures.max_fds
    assert figures.started_s is not None
    assert 0 < time.time() - figures.started_s < 24 * 3600


def test_more_descriptors_are_seen():
    before = read_process().open_fds or 0
    held = [os.dup(0) for _ in range(5)]
    try:
        assert read_process().open_fds == before + 5
    finally:
        for descriptor in held:
            os.close(descriptor)


def test_a_command_with_a_bracket_and_spaces(tmp_path: Path):
    real = Path("/proc/self/stat").read_text()
    odd = real.replace(real[real.index("(") : real.rindex(")") + 1], "(a) b (c 1 2)")
    (tmp_path / "stat").write_text(odd)
    ours, shown = read_process().started_s, read_process(tmp_path).started_s
    assert ours is not None
    assert shown is not None
    assert abs(ours - shown) < 2


def test_unknown_is_none(tmp_path: Path):
    assert resident_bytes(tmp_path) is None
    (tmp_path / "statm").write_text("nothing")
    (tmp_path / "stat").write_text("1 (x) S")
    figures = read_process(tmp_path)
    assert (figures.resident_bytes, figures.open_fds, figures.started_s) == (None, None, None)
