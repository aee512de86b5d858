"""The row of overload in its short form: that it measures, not what."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks import overload
from benchmarks.stand import BenchError, Stand

SOURCE = Path(__file__).resolve().parents[2] / "benchmarks/load.c"
FLOOR = SOURCE.with_name("overload_floor.c")
COMPILER = shutil.which("cc")


def compiled(folder: Path) -> Path:
    assert COMPILER is not None
    command = [COMPILER, "-O1", "-o", folder / "load", SOURCE, "-lm"]
    subprocess.run(command, check=True)
    library = [COMPILER, "-O1", "-shared", "-fPIC", "-o", folder / "overload_floor.so", FLOOR]
    subprocess.run([*library, "-lpthread"], check=True)
    return folder / "load"


def counts(in_time: int, late: int, expired: int) -> dict[str, dict[str, int]]:
    return {"upper": {"in_time": in_time, "late": late, "expired": expired, "refused": 9}}


def test_of_those_let_in_the_late_and_the_expired_were_not_in_time():
    rounds = [counts(90, 5, 5), counts(270, 0, 30)]
    assert overload._kept(rounds, "upper") == 0.9
    with pytest.raises(BenchError, match="nothing of the upper class"):
        overload._kept([counts(0, 1, 1)], "upper")


def test_what_was_done_is_told_by_the_peak_and_by_the_most_of_the_same_mix():
    flood = {"upper": {"in_time": 120, "seconds": 2.0}, "lower": {"in_time": 60, "seconds": 2.0}}
    offered = dict.fromkeys(overload.OFFERED, 50.0) | {1.0: 96.0}
    found = overload._figures([overload.Round(120.0, flood, offered)] * 3)
    assert found["done"] == 0.75
    assert found["goodput"] == pytest.approx(90 / 96)
    assert found["offered"][1.0] == pytest.approx(0.8)


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None, reason="no C compiler here")
def test_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(overload, "ROUNDS", 1)
    # Time enough on a busy machine: what is tested is that all is counted.
    monkeypatch.setattr(overload, "DEADLINE_US", {"upper": 2_000_000, "lower": 4_000_000})
    monkeypatch.setattr(overload, "ROUND_S", 2.0)
    for name in ("PEAK_S", "OFFERED_S", "FLOOR_S"):
        monkeypatch.setattr(overload, name, 1.0)
    monkeypatch.setattr(overload, "OFFERED", (1.0,))
    rows = overload.overload(Stand(tmp_path, compiled(tmp_path)))
    names = ("kept", "done", "bytes", "goodput", "floor")
    assert [row.name for row in rows] == [f"overload-{name}" for name in names]
    kept, done, queued, goodput, floor = rows
    (reports,) = kept.raw["rounds"]
    assert set(reports) == {"upper", "lower"}
    assert reports["upper"]["in_time"] > 0
    assert reports["upper"]["wrong"] == reports["lower"]["errors"] == 0
    for row in (done, goodput, floor):
        assert row.value is not None
        assert row.value > 0
    assert queued.value is not None
    # A request that is called back from its slot joins a line that has been full meanwhile.
    assert queued.value <= 1.1
