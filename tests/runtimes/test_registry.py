"""The registry: names become runtimes; nothing is imported that was not asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from edged.config.preference import BuiltInRuntime
from edged.errors import LoadError
from edged.manifest import ArtefactEntry
from edged.runtimes import installed
from edged.runtimes.base import Artefact
from edged.runtimes.registry import (
    APART,
    ARTEFACT_KINDS,
    AUTO,
    COMPUTES_IN,
    DEVICES,
    LINES,
    RUNTIME_NAMES,
    all_offers,
    computed_in,
    create_runtime,
    device_of,
    home_of,
    kinds_of,
    names_of,
    problem_of,
)
from tests.fakes.packages import write_package


@pytest.mark.parametrize("name", RUNTIME_NAMES)
def test_every_name_makes_its_runtime(name: str):
    assert create_runtime(name, threads=1).name == name


def test_a_configuration_takes_the_same_names_and_a_manifest_their_kinds():
    assert get_args(BuiltInRuntime) == RUNTIME_NAMES
    kinds = {kind for kinds in ARTEFACT_KINDS.values() for kind in kinds}
    assert kinds <= set(get_args(get_type_hints(ArtefactEntry)["runtime"]))
    assert COMPUTES_IN.keys() | APART <= set(RUNTIME_NAMES) == set(DEVICES)


@pytest.mark.parametrize("name", sorted(APART))
def test_what_is_machine_code_loads_in_a_worker_only(name: str):
    with pytest.raises(LoadError, match="loaded in a worker process only"):
        create_runtime(name, threads=1).load(Artefact("m", b"", (), ()))
    assert create_runtime(name, threads=1, is_expendable=True).name == name


def test_a_name_that_nobody_gives():
    """Also where the next of the list is to be tried: it says so itself, and breaks nothing."""
    runtime = create_runtime("tensorflow", threads=1)
    assert "no installed package gives it" in runtime.info().problem
    with pytest.raises(LoadError, match="no installed package gives it"):
        runtime.load(Artefact("m", b"", (), ()))
    assert (kinds_of("tensorflow"), device_of("tensorflow"), computed_in("tensorflow")) == (
        (), "cpu", "",
    )  # fmt: skip
    assert "no installed package" in problem_of("tensorflow")
    assert problem_of("onnxruntime") == ""
    assert (device_of(""), computed_in("")) == ("cpu", "")


def test_every_runtime_is_asked(tmp_path: Path, monkeypatch):
    """Each in a child: also one whose package ends the process, and one with a taken name."""
    body = "import os; os.abort()"
    points = {"crash": "crash:R", "onnxruntime": "crash:R"}
    write_package(tmp_path, "crash", body, points)
    write_package(tmp_path, "openvino", "import os, signal; os.kill(os.getpid(), 9)", {})
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(installed, "_offers", {})
    offers = {offer.name: offer for offer in all_offers()}
    assert [name for name in offers if name in (*RUNTIME_NAMES, "crash")] == [
        *RUNTIME_NAMES,
        "crash",
    ]
    assert offers["onnxruntime"].version
    assert offers["onnxruntime"].kinds == ("onnx",)
    assert "of this name, which is not used" in offers["onnxruntime"].note
    assert "ended the process (SIGKILL); install its package again" in offers["openvino"].problem
    assert "crash 1.0: importing it ended the process (SIGABRT)" in offers["crash"].problem


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_importing_and_making_imports_no_backend(name: str):
    code = (
        "import sys; from edged.runtimes.registry import create_runtime;"
        f"create_runtime('{name}', threads=1);"
        "sys.exit(not sys.modules.keys().isdisjoint({'onnxruntime', 'openvino'}))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == {package!r}:
            raise {error}
sys.meta_path.insert(0, Missing())
from edged.errors import LoadError
from edged.runtimes import installed
from edged.runtimes.base import Artefact
from edged.runtimes.registry import create_runtime
print(create_runtime({package!r}, threads=1).info().problem)
try:
    create_runtime({package!r}, threads=1).load(Artefact("m", b"", (), ()))
except LoadError as exc:
    print(exc.message)
"""


EMPTY = """
import sys, types
sys.modules[{package!r}] = types.ModuleType({package!r})
from edged.runtimes.registry import create_runtime
print(create_runtime({package!r}, threads=1).info().problem)
"""


@pytest.mark.parametrize("package", ["onnxruntime", "openvino"])
def test_what_is_left_of_a_package_that_was_removed(package: str):
    """Python imports an empty folder as a package without a version and without anything."""
    done = subprocess.run(
        [sys.executable, "-c", EMPTY.format(package=package)],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert f"{package} is installed but does not import" in done.stdout
    assert "nothing of its code" in done.stdout


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("ModuleNotFoundError(\"No module named 'onnxruntime'\")", "is not installed"),
        ("ImportError('libcuda.so.1: cannot open shared object file')", "does not load"),
        ("SystemExit('no licence')", "does not import (SystemExit: no licence)"),
        ("OSError('/opt/secret/lib.so: file too short')", "does not load"),
        ("ValueError('numpy.dtype size changed')", "does not import"),
    ],
)
@pytest.mark.parametrize(
    ("package", "extra"), [("onnxruntime", "edged[cpu]"), ("openvino", "edged[openvino]")]
)
def test_a_missing_or_broken_package_is_a_problem_with_a_remedy(
    package: str, extra: str, error: str, words: str
):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(package=package, error=error)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    said, raised = done.stdout.splitlines()
    assert said == raised
    assert words in said
    assert f'pip install "{extra}"' in said
    assert "/opt/secret" not in said


def test_auto_is_every_runtime_with_those_of_accelerators_first():
    names = names_of(AUTO)
    assert sorted(names) == sorted(set(RUNTIME_NAMES) - set(LINES))  # what makes texts is named
    on_host = [DEVICES[name] == "cpu" for name in names]
    assert on_host == sorted(on_host)
    assert next(name for name in names if DEVICES[name] == "cpu") == "onnxruntime"
    assert names_of(["openvino", "onnxruntime"]) == ("openvino", "onnxruntime")


@pytest.mark.parametrize(
    ("runtime", "home"),
    [
        (AUTO, "cpu"),
        ((), "cpu"),
        (("onnxruntime-cuda", "onnxruntime"), "cuda"),
        (["openvino"], "cpu"),
    ],
)
def test_whose_memory_a_model_is_counted_in(runtime: str | tuple[str, ...], home: str):
    assert home_of(runtime) == home
