"""Another interpreter for the framework's process: asked beforehand, lent our code and nothing else."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from converters.cli import main
from converters.errors import ConversionError
from converters.foreign import NEEDED, PYTHONS, check_interpreter, find_interpreter, lend_code
from edged.errors import DeniedError

BARE = {"PATH": os.environ["PATH"]}


@pytest.fixture
def venv(tmp_path):
    """Returns ``make(*modules) -> interpreter``: a venv that sees only where these modules lie."""

    def make(*modules):
        folder = tmp_path / "other"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        [site] = (folder / "lib").glob("python*/site-packages")
        places = {Path(importlib.util.find_spec(name).origin).parent.parent for name in modules}
        (site / "lent.pth").write_text("".join(f"{place}\n" for place in sorted(places)))
        return folder / "bin" / "python"

    return make


def fake(tmp_path, text):
    program = tmp_path / "python-fake"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    return program


def test_the_bounds_are_those_of_the_project(root):
    page = (root / "pyproject.toml").read_text()
    for package, low, high in NEEDED.values():
        assert f'"{package}>={low},<{high}"' in page
    low, high = PYTHONS
    assert f'requires-python = ">={low[0]}.{low[1]}' in page
    supported = re.findall(r"Python :: (\d+)\.(\d+)\"", page)
    assert max((int(a), int(b)) for a, b in supported) == high


def test_a_bare_venv_is_told_what_it_lacks_with_the_line_to_type(venv):
    python = venv()
    with pytest.raises(ConversionError) as error:
        check_interpreter(python, BARE)
    assert f"{python} lacks numpy, msgspec, onnx, protobuf: {python} -m pip install" in str(
        error.value
    )
    assert "'numpy>=1.26,<2.6'" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ('{"python": [3, 9], "packages": {}}', "is Python 3.9; the conversion needs 3.10 to 3.13"),
        ('{"python": [2, 7], "packages": {}}', "is Python 2.7"),
        ("hello", "does not answer as a Python interpreter does"),
        (
            '{"python": [3, 12], "packages": {"numpy": "1.9.1", "msgspec": "0.20.0"}}',
            "lacks onnx, protobuf and has numpy 1.9.1 (needed: 1.26 or later, before 2.6): ",
        ),
    ],
)
def test_the_wrong_one_is_refused_by_what_is_wrong(tmp_path, answer, words):
    with pytest.raises(ConversionError) as error:
        check_interpreter(fake(tmp_path, f"echo '{answer}'"), BARE)
    assert words in str(error.value)


def test_a_program_that_fails_is_quoted(tmp_path):
    with pytest.raises(ConversionError, match="interpreter does: no such thing"):
        check_interpreter(fake(tmp_path, "echo no such thing >&2; exit 3"), BARE)
    with pytest.raises(ConversionError, match=r"no-python.: no such program"):
        find_interpreter("no-python")


def test_our_code_is_lent_and_nothing_beside_it(tmp_path):
    folder = Path(lend_code(tmp_path / "code"))
    assert sorted(path.name for path in folder.iterdir()) == ["converters", "edged"]
    assert (folder / "converters" / "worker.py").is_file()


def test_a_recipe_that_names_an_interpreter_asks_for_trust(linear, tmp_path):
    from converters import convert

    mark = tmp_path / "canary"
    recipe = linear(python=str(fake(tmp_path, f"touch {mark}")))
    with pytest.raises(DeniedError, match="names an interpreter"):
        convert(recipe, tmp_path / "m.edgb")
    assert not mark.exists()
    with pytest.raises(ConversionError, match="does not answer as"):
        convert(recipe, tmp_path / "m.edgb", trust=True)
    assert mark.exists()


@pytest.mark.slow
def test_a_pipeline_is_converted_by_an_interpreter_that_does_not_know_edged(
    venv, digits, tmp_path, capsys
):
    python = venv("numpy", "msgspec", "onnx", "sklearn", "skl2onnx", "joblib")
    probe = [str(python), "-c", "import edged"]
    done = subprocess.run(probe, cwd="/", env=BARE, capture_output=True, text=True, check=False)
    assert "No module named 'edged'" in done.stderr
    words = [str(digits / "digits.joblib"), "--samples", str(digits / "samples.npz"), "--trust"]
    words += ["--name", "digits", "--release", "1", "--no-report"]
    assert main([*words, "-o", str(tmp_path / "own.edgb")]) == 0
    assert main([*words, "-o", str(tmp_path / "other.edgb"), "--python", str(python)]) == 0
    assert (tmp_path / "own.edgb").read_bytes() == (tmp_path / "other.edgb").read_bytes()
    capsys.readouterr()
    source = tmp_path / "broken.joblib"
    source.write_bytes(b"\x80\x04.")
    assert (
        main([str(source), *words[1:], "-o", str(tmp_path / "x.edgb"), "--python", str(python)])
        == 65
    )
    assert f"under {python}: " in capsys.readouterr().err
