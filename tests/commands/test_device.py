"""The words of the commands; what they do: test_ahead.py, test_quarantine.py and test_rendering.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edged.cli import main
from edged.store.probation import Probation

Capture = pytest.CaptureFixture[str]


def test_quarantine_shows_and_lifts(tmp_path: Path, capsys: Capture) -> None:
    """Also without a daemon and with a configuration that is broken."""
    (tmp_path / "edged.yaml").write_text(f"state_dir: {tmp_path}\nmodels: [\n")
    Probation(tmp_path / "probation").quarantine("a" * 64, "gate", 3, "it died of SIGFPE")
    assert main(["quarantine", "--config", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("gate release 3  aaaaaaaaaaaa  since 20")
    assert main(["quarantine", "--state-dir", str(tmp_path), "--lift", "door"]) == 66
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == 'error: "door" is not in quarantine; in it are: gate (aaaaaaaaaaaa)\n'
    assert main(["quarantine", "--config", str(tmp_path), "--lift", "gate"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("gate release 3: will be tried again at the next reload")
    assert Probation(tmp_path / "probation").all() == {}


def test_device(capsys: Capture) -> None:
    assert main(["device"]) == 0
    assert capsys.readouterr().out.startswith("cpu ")
    assert main(["device", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"cpu", "nvidia", "jetson", "runtimes"}


def test_no_engines_were_built(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "edged.yaml").write_text(f"state_dir: {tmp_path}\nmodels: {{}}\n")
    assert main(["engines", "--json", "--config", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out) == []
