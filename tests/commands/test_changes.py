"""The words of the commands; what they do: tests/e2e/test_generations.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.cli import main


def test_a_number_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rollback", "100000000", "--state-dir", str(tmp_path)]) == 65
    assert "edged history" in capsys.readouterr().err


def test_history_of_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", "--json", "--state-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "[]\n"


def test_nobody_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["apply", "--socket", str(tmp_path / "no.sock"), "--state-dir", str(tmp_path)]
    assert main(words) == 69
    assert "no.sock" in capsys.readouterr().err
