"""A peer's environment: made once, and told of by name when it cannot be."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks.peers import environment
from benchmarks.peers.environment import Environment
from benchmarks.stand import ROOT, BenchError


def test_below_a_folder_that_git_ignores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv(environment.HOME, raising=False)
    assert environment.home().parent == ROOT
    assert ".venv*/" in (ROOT / ".gitignore").read_text().splitlines()
    assert environment.home().name.startswith(".venv")
    monkeypatch.setenv(environment.HOME, str(tmp_path))
    assert environment.home() == tmp_path


def test_nothing_is_done_twice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    ran: list[list[str]] = []

    def run(self: Environment, command: list[str]) -> str:
        ran.append(command)
        self.folder.mkdir(exist_ok=True)
        return ""

    monkeypatch.setattr(Environment, "_run", run)
    Environment(tmp_path / "peer", ("peer==1", "other")).make()
    assert [command[1:3] for command in ran] == [["-m", "venv"], ["-m", "pip"]]
    assert ran[1][-2:] == ["peer==1", "other"]
    Environment(tmp_path / "peer", ("peer==1", "other")).make()
    assert len(ran) == 2
    Environment(tmp_path / "peer", ("peer==2", "other")).make()
    assert len(ran) == 4, "other packages are another environment"


def test_what_pip_says_last_is_the_reason(tmp_path: Path):
    code = "import sys; print('WARNING: x\\nERROR: a\\nERROR: no such release', file=sys.stderr)"
    failing = [sys.executable, "-c", f"{code}; sys.exit(1)"]
    with pytest.raises(BenchError, match=r"^peer is not installed: ERROR: no such release$"):
        Environment(tmp_path / "peer", ("peer==1",))._run(failing)
    with pytest.raises(BenchError, match=r"^peer is not installed: .*nowhere"):
        Environment(tmp_path / "peer", ("peer==1",))._run([str(tmp_path / "nowhere")])


def test_versions_are_asked_of_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    asked: list[list[str]] = []
    monkeypatch.setattr(
        Environment, "_run", lambda _, command: asked.append(command) or "1.2 1.32.0\n"
    )
    packages = ("peer[grpc]==1.2", "uvloop<1", "onnxruntime==1.32.0")
    said = Environment(tmp_path, packages).versions()
    assert said == "peer 1.2, onnxruntime 1.32.0"
    assert asked[0][-2:] == ["peer", "onnxruntime"]


def test_half_an_environment_is_made_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "made.json").write_text(json.dumps(["another Python", "peer==1"]))
    ran: list[list[str]] = []
    monkeypatch.setattr(Environment, "_run", lambda _, command: ran.append(command) or "")
    Environment(tmp_path, ("peer==1",)).make()
    assert "--clear" in ran[0]
