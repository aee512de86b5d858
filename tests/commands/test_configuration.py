"""The words of the commands; what they find: test_verdict.py, and beside a daemon tests/test_cli.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edged.cli import main

Capture = pytest.CaptureFixture[str]


def test_every_problem_has_its_line(tmp_path: Path, capsys: Capture) -> None:
    config = tmp_path / "edged.yaml"
    config.write_text(
        "trust: {require_signatures: false}\nmodels:\n  m: {bundle: no.edgb}\n"
        "  n: {bundle: none.edgb}\n"
    )
    assert main(["check", "--config", str(config)]) == 78
    said = capsys.readouterr()
    assert said.out == ""
    first, second, last = said.err.splitlines()
    assert first.startswith(f"{config}:3:")
    assert second.startswith(f"{config}:4:")
    assert last == f"{config}: 2 problems; nothing was changed"
    assert main(["check", "--no-files", "--config", str(config)]) == 0
    config.write_text("modles: {}\n")
    assert main(["check", "--no-files", "--config", str(config)]) == 78
    assert 'did you mean "models"' in capsys.readouterr().err


def test_problems_as_json(tmp_path: Path, capsys: Capture) -> None:
    config = tmp_path / "edged.yaml"
    config.write_text("modles: {}\n")
    assert main(["check", "--json", "--config", str(config)]) == 78
    said = capsys.readouterr()
    assert said.err == ""
    assert "modles" in json.dumps(json.loads(said.out))


def test_no_file(tmp_path: Path, capsys: Capture) -> None:
    assert main(["check", "--config", str(tmp_path / "edged.yaml")]) == 78
    assert "No such file" in capsys.readouterr().err


def test_schema_and_explanation(capsys: Capture) -> None:
    assert main(["check", "--schema"]) == 0
    assert json.loads(capsys.readouterr().out)["type"] == "object"
    assert main(["check", "--explain"]) == 0
    assert "max_batch" in capsys.readouterr().out


def test_nothing_was_applied_yet(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "edged.yaml").write_text(f"state_dir: {tmp_path}/s\nmodels: {{}}\n")
    assert main(["diff", "--config", str(tmp_path)]) == 78
    assert "holds no applied configuration yet" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("verb", "status", "word"), [("status", 0, "allowed: "), ("reload", 77, "denied: ")]
)
def test_what_a_client_may_do(
    tmp_path: Path, capsys: Capture, verb: str, status: int, word: str
) -> None:
    config = tmp_path / "edged.yaml"
    config.write_text("models: {}\n")
    assert main(["explain", verb, "--config", str(config)]) == status
    assert capsys.readouterr().out.startswith(word)
