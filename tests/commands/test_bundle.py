"""The words of the commands; what they do: test_installing.py and test_installed.py."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from edged.cli import main
from edged.commands.generations import Refused
from edged.store.keys import generate_key
from tests.bundles import make_bundle
from tests.models import double


@pytest.fixture
def box(tmp_path: Path) -> Path:
    (tmp_path / "bundles").mkdir()
    generate_key(tmp_path / "site")
    (tmp_path / "edged.yaml").write_text(
        "trust: {keys: [site.pub]}\nmodels:\n  m: {bundle: bundles/m-*.edgb}\n"
    )
    for release in (1, 2, 3):
        file = tmp_path / "bundles" / f"m-{release}.edgb"
        make_bundle(file, double(), name="m", release=release, key=tmp_path / "site.key")
    return tmp_path


def test_the_command_line(box: Path, capsys: pytest.CaptureFixture[str]):
    def run(*words: str) -> int:
        return main(["bundle", *words, "--config", str(box)])

    assert run("list") == 0
    assert run("remove", "m@2") == 0
    assert run("remove", "m@3") == 78
    for words in ("m", "@1", "m@x", "m@²"):
        capsys.readouterr()
        assert run("remove", words) == 65
        assert "expected MODEL@RELEASE" in capsys.readouterr().err
    assert run("remove", "m@1", "--wait", "--socket", str(box / "no.sock")) == 69
    capsys.readouterr()
    (box / "cut.edgb").write_bytes((box / "bundles/m-3.edgb").read_bytes()[:99])
    for words, status, said in (
        (("no.edgb",), 66, "no.edgb: there is no such file; name the .edgb file of one bundle"),
        (("bundles",), 65, "bundles is a folder"),
        (("cut.edgb",), 78, "cut.edgb: "),
    ):
        assert run("install", *(str(box / word) for word in words)) == status
        assert said in capsys.readouterr().err
    for timeout in ("nan", "-1", "inf", "soon"):
        with pytest.raises(SystemExit):
            run("remove", "m@1", "--wait", "--timeout", timeout)
        assert "expected a number of seconds" in capsys.readouterr().err
    left = [path.name for path in (box / "bundles").iterdir()]
    assert left == ["m-3.edgb"], "the file's going and the daemon's word are two things"
    (box / "bundles/m-4.edgb").write_bytes(b"no bundle")
    assert run("list", "--json") == 78


def test_a_removal_that_the_daemon_has_no_room_for(
    box: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """It writes before it takes anything; the file is gone all the same, and it tries again."""
    why = f"the state directory cannot be written: {os.strerror(errno.ENOSPC)}"

    def refuse(*_: object, **__: object) -> str:
        raise Refused([why])

    monkeypatch.setattr("edged.commands.generations.ask", refuse)
    assert main(["bundle", "remove", "m@3", "--older", "--wait", "--config", str(box)]) == 78
    said = capsys.readouterr()
    assert said.out == f"{box}/bundles/m-3.edgb is removed\n"
    assert said.err.splitlines() == [
        "the file is gone; the daemon has not taken the change, because:",
        why,
        "the daemon tries again by itself, at least once a minute",
    ]


def test_floors(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def run(*words: str) -> int:
        return main(["bundle", "floor", *words, "--state-dir", str(tmp_path)])

    assert run() == 0
    assert run("m@7") == 0
    assert run("m@5") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "m: no release before 5 is accepted"
    assert run("m@9999999999999999") == 65
    assert run("../m@1") == 78
    assert run("m@0") == 0
    assert capsys.readouterr().out == "no model has a floor\n"
    assert main(["bundle", "floor", "m@1", "--state-dir", str(tmp_path / "none")]) == 78
    for name in ("floor.json", "floor-2.json"):
        (tmp_path / name).write_bytes(b"")
    assert (run(), run("m@9")) == (78, 78)
    assert "edged bundle floor --from-serving" in capsys.readouterr().err
    assert run("--from-serving") == 0
    assert capsys.readouterr().out == "no model has a floor\n", "nothing serves here"
    assert run("--from-serving", "m@3", "n@4") == 0
    assert run("m@0", "n@5") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "n: no release before 5 is accepted"
