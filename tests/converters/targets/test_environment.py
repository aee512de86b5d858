import json
import os
import sys

import numpy as np
import pytest

from converters import graph
from converters.errors import UnsupportedModelError
from converters.targets import environment
from converters.targets.environment import NotCheckedError, find_python, prepare, started
from converters.targets.table import TARGETS

ROWS = {"x": np.ones((2, 3), "f4")}
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


def probe(target, model, inputs, mode):
    with started(target, mode) as ask:
        return ask(model, inputs)


@pytest.fixture
def here(monkeypatch, tmp_path):
    """The interpreter of the tests in the place of the target's: nothing is fetched."""
    monkeypatch.setenv(environment.VARIABLE, str(tmp_path / "envs"))
    site = [path for path in sys.path if path.endswith("site-packages")]
    script = tmp_path / "python"
    # -I leaves PYTHONPATH out; the packages are shown to the probe by a first line of its own.
    code = f"import sys, runpy; sys.path += {site!r}; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    script.write_text(f'#!/bin/sh\nshift\nexec {sys.executable} -I -c "{code}" "$@"\n')
    script.chmod(0o755)
    monkeypatch.setattr(environment, "prepare", lambda _target: script)
    return script


def test_a_model_is_loaded_and_run_apart(here, build_linear):
    probed = probe(TARGETS["cpu"], graph.serialize(build_linear()), ROWS, "auto")
    np.testing.assert_allclose(probed.outputs["y"], [[9.5, 11.5]] * 2)
    assert probed.python.startswith(HERE)


def test_what_does_not_load_there_is_told_in_the_runtimes_words(here):
    with pytest.raises(UnsupportedModelError, match=r"LANG=C\) the model does not load: .*"):
        probe(TARGETS["cpu"], b"\x08\x07", ROWS, "auto")


def test_what_does_not_run_there_is_told(here, build_linear):
    with pytest.raises(UnsupportedModelError, match=r"does not run: .*"):
        probe(TARGETS["cpu"], graph.serialize(build_linear()), {"x": np.ones((2, 4), "f4")}, "auto")


def test_a_runtime_that_crashes_is_told(here):
    here.write_text("#!/bin/sh\necho gone wrong >&2\nkill -SEGV $$\n")
    with pytest.raises(UnsupportedModelError, match=r"ended .*\(SIGSEGV\): gone wrong"):
        probe(TARGETS["cpu"], b"", ROWS, "auto")


def test_the_probe_sees_a_bare_environment(here, build_linear, monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "hidden")
    here.write_text(
        f'#!/bin/sh\nexec {sys.executable} -c "import json, os, sys; '
        "open(sys.argv[-1] + '/answer.json', 'w').write(json.dumps("
        "{'python': '', 'onnxruntime': '', 'step': 'load', 'error': ' '.join(sorted(os.environ))}))\""
        ' "$@"\n'
    )
    with pytest.raises(UnsupportedModelError) as error:
        probe(TARGETS["cpu"], b"", ROWS, "auto")
    assert "SECRET_TOKEN" not in str(error.value)
    assert "LC_ALL" in str(error.value)


def test_one_that_is_not_asked_is_ended(here):
    with started(TARGETS["cpu"], "auto"):
        pass


@pytest.mark.parametrize(("mode", "kept"), [("off", "/somewhere"), ("auto", "off")])
def test_switched_off(mode, kept, monkeypatch):
    monkeypatch.setenv(environment.VARIABLE, kept)
    with pytest.raises(NotCheckedError, match="switched off"):
        probe(TARGETS["cpu"], b"", ROWS, mode)


def test_an_environment_that_cannot_be_made_says_why_and_leaves_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv(environment.VARIABLE, str(tmp_path))
    script = tmp_path / "python9"
    script.write_text(
        '#!/bin/sh\ncase "$*" in *venv*) mkdir -p "$4/bin"; cp "$0" "$4/bin/python";; '
        "*install*) echo 'ERROR: No matching distribution found' >&2; exit 1;; *) echo 9.9;; esac\n"
    )
    script.chmod(0o755)
    monkeypatch.setattr(environment, "find_python", lambda _version: script)
    with pytest.raises(NotCheckedError, match=r"1\.23\.2 cannot be made here \(ERROR: No matching"):
        prepare(TARGETS["cpu"])
    assert not (tmp_path / "onnxruntime-1.23.2-py9.9").exists()


def test_a_folder_that_cannot_be_written_says_so(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(environment.VARIABLE, str(tmp_path / "file" / "envs"))
    with pytest.raises(NotCheckedError, match="Not a directory"):
        prepare(TARGETS["cpu"])


def test_the_interpreter_of_that_version_or_this_one(monkeypatch, tmp_path):
    assert str(find_python(HERE)) == sys.executable
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    assert str(find_python("3.99")) == sys.executable
    python = tmp_path / "versions" / "3.99.1" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho 3.99\n")
    python.chmod(0o755)
    assert find_python("3.99") == python


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_real_empty_environment_of_jetpack_6(build_linear, tmp_path, monkeypatch):
    """Made from the package index, so that what is told of it was seen; offline it is said."""
    kept = os.environ.get("EDGED_TEST_TARGET_ENVS", str(tmp_path))
    monkeypatch.setenv(environment.VARIABLE, kept)
    target = TARGETS["jetpack6"]
    try:
        python = prepare(target)
    except NotCheckedError as exc:
        pytest.skip(f"no package index here: {exc}")
    listed = python.parent.parent / "lib"
    packages = {
        path.name.split("-")[0] for path in listed.glob("python*/site-packages/*.dist-info")
    }
    assert {"numpy", "onnxruntime"} <= packages <= {"numpy", "onnxruntime", "pip", "setuptools"}
    probed = probe(target, graph.serialize(build_linear()), ROWS, "require")
    assert probed.onnxruntime == "1.23.2"
    np.testing.assert_allclose(probed.outputs["y"], [[9.5, 11.5]] * 2)
    with pytest.raises(UnsupportedModelError, match=r"1\.23\.2, LANG=C\) the model does not load"):
        probe(target, graph.serialize(build_linear(opset=24)), ROWS, "require")
    assert json.dumps(probed.python)  # a plain text, as reports need it
