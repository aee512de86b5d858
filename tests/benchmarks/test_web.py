"""The rows of HTTP in their short form: that they measure, not what."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks import web
from benchmarks.stand import BenchError, Stand

SOURCES = Path(__file__).resolve().parents[2] / "benchmarks"
COMPILER = shutil.which("cc")
pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler here")


def compiled(folder: Path) -> Path:
    assert COMPILER is not None
    for name in ("load", "http_load"):
        command = [COMPILER, "-O1", "-o", folder / name, SOURCES / f"{name}.c", "-lm"]
        subprocess.run(command, check=True)
    return folder / "load"


@pytest.mark.slow
def test_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "ROUNDS", 1)
    monkeypatch.setattr(web, "ROUND_S", 0.3)
    rows = web.small_tensors(Stand(tmp_path, compiled(tmp_path)))
    assert [row.name for row in rows] == ["http-1", "http-16", "http-16-ids"]
    assert all(row.value is not None and row.value > 0 for row in rows)


@pytest.mark.slow
def test_a_wrong_answer_is_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoilt(*given: object) -> tuple[Path, Path]:
        request, tail = files(*given)  # type: ignore[arg-type]
        tail.write_bytes(b"wrong" + tail.read_bytes()[5:])
        return request, tail

    files = web.files_for
    monkeypatch.setattr(web, "files_for", spoilt)
    with pytest.raises(BenchError, match=r'"wrong": [1-9]'):
        web.small_tensors(Stand(tmp_path, compiled(tmp_path), 0.3))
