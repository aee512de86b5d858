"""The check of a GPU: no row rests on what was not measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import gpu_check
from benchmarks.results import Row, measured
from edged.errors import LoadError
from edged.runtimes.cuda import driver_problem

MODULE = "tests.fakes.gpu_parts"


def test_without_a_gpu_every_row_reads_not_measured_and_nothing_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    if not driver_problem():
        pytest.skip("there is a GPU here")
    out = tmp_path / "results.json"
    assert gpu_check.main(["--out", str(out)]) == 0
    rows = [Row(**row) for row in json.loads(out.read_text())]
    assert [row.name for row in rows] == [
        row[0] for _, part in gpu_check.PARTS.values() for row in part
    ]
    assert all(row.value is None and row.holds is None for row in rows)
    assert all("NVIDIA" in row.raw["why"] for row in rows)
    assert "No GPU to check here" in capsys.readouterr().out


def test_every_test_that_needs_a_gpu_is_run(root: Path):
    marked = {
        str(path.relative_to(root))
        for path in (root / "tests").rglob("test_*.py")
        if "@pytest.mark.gpu\n" in path.read_text()
    }
    assert marked == set(gpu_check.GPU_TESTS[2:])


@pytest.mark.slow
class TestTests:
    def run(self, tmp_path: Path, body: str) -> list[Row]:
        path = tmp_path / "test_those.py"
        path.write_text(body)
        rows: list[Row] = []
        gpu_check.gpu_tests(rows, [str(path), "-c", "/dev/null", f"--rootdir={tmp_path}"])
        return rows

    def test_counted(self, tmp_path: Path):
        body = (
            "import pytest\ndef test_a(): pass\ndef test_b(): assert 0\ndef test_c(): pytest.skip()"
        )
        (row,) = self.run(tmp_path, body)
        assert (row.name, row.value, row.holds) == ("gpu-tests", 1, False)
        (row,) = self.run(tmp_path, "def test_a(): pass")
        assert row.holds is True

    def test_none_that_ran_are_no_result(self, tmp_path: Path):
        with pytest.raises(RuntimeError, match="pytest ended with"):
            self.run(tmp_path, "import pytest\ndef test_c(): pytest.skip()")


def test_row_names_are_unique():
    names = [row[0] for _, part in gpu_check.PARTS.values() for row in part]
    assert len(names) == len(set(names))


def test_a_part_that_raises_leaves_its_rows_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    def refuse(rows: list[Row]) -> None:
        rows.append(measured("a", 1, "x", "", {}))
        raise LoadError("libcublasLt.so.13 is not there")

    monkeypatch.setitem(gpu_check.PARTS, "bad", (refuse, [("a", "x", ""), ("b", "x", "")]))
    got, lost = gpu_check.measure("bad", tmp_path / "rows.json")
    assert got.value == 1
    assert lost.value is None
    assert lost.raw == {"why": "libcublasLt.so.13 is not there"}


@pytest.mark.parametrize(
    ("part", "timeout_s", "words"),
    [
        ("good", 60, ["", "not reached"]),
        ("crash", 60, ["", "its process died of SIGSEGV"]),
        ("hang", 3, ["took longer than 3 s and was ended"] * 2),
    ],
)
def test_a_part_that_crashes_or_hangs_harms_no_other(part: str, timeout_s: float, words: list[str]):
    import tests.fakes.gpu_parts  # noqa: F401 - makes the parts known here too

    rows = gpu_check.apart(part, timeout_s, MODULE)
    assert [row.name for row in rows] == ["one", "two"]
    assert [row.raw.get("why", "") for row in rows] == words
    assert rows[0].holds is (None if part == "hang" else True)


def test_a_bar_that_does_not_hold_fails_the_check(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(gpu_check, "driver_problem", lambda: "")
    monkeypatch.setattr(gpu_check, "PARTS", {"bad": (list, [])})
    for value, status in ((1, 0), (3, 1)):
        row = measured("one", value, "x", "<= 2", {})
        monkeypatch.setattr(gpu_check, "apart", lambda name, timeout_s, row=row: [row])
        assert gpu_check.main(["--out", str(tmp_path / "r.json")]) == status
