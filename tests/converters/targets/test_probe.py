"""The probe by itself: a file that another environment's interpreter runs, without this package."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from converters import graph
from converters.targets import probe
from converters.targets.environment import read_arrays, write_arrays

SCRIPT = Path(probe.__file__)


def ask(folder, line="\n"):
    """Run it as the target's interpreter would: isolated, by its path."""
    site = [path for path in sys.path if path.endswith("site-packages")]
    code = (
        f"import sys, runpy; sys.path += {site!r}; sys.argv = ['probe', {str(folder)!r}]; "
        f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code],
        input=line,
        cwd=folder,
        env={"LANG": "C", "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = folder / "answer.json"
    return json.loads(answer.read_text()) if answer.exists() else None


@pytest.fixture
def folder(tmp_path, build_linear):
    (tmp_path / "model.onnx").write_bytes(graph.serialize(build_linear()))
    write_arrays(tmp_path, "inputs", {"x": np.ones((2, 3), "f4")})
    return tmp_path


def test_it_runs_the_model_and_says_by_what(folder):
    answer = ask(folder)
    assert set(answer) == {"python", "onnxruntime"}
    answers = read_arrays(folder, "outputs")
    np.testing.assert_allclose(answers["y"], [[9.5, 11.5]] * 2)


def test_it_says_at_which_step_it_failed_in_ascii(folder):
    write_arrays(folder, "inputs", {"x": np.ones((2, 9), "f4")})
    assert ask(folder)["step"] == "run"
    (folder / "model.onnx").write_bytes("nö".encode())
    answer = ask(folder)
    assert answer["step"] == "load"
    assert answer["error"].isascii()
    assert "\n" not in answer["error"]
    assert not (folder / "outputs.npz").exists()


def test_whoever_closes_its_input_needs_no_answer(folder):
    assert ask(folder, line="") is None


def test_it_imports_nothing_that_an_empty_environment_lacks():
    names = set()
    for node in ast.walk(ast.parse(SCRIPT.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module).partition(".")[0])
    assert names - set(sys.stdlib_module_names) == {"numpy", "onnxruntime"}
