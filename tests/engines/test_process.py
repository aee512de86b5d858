"""The building process, seen from outside: how it lives, stops, dies, and what it is given."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edged.engines import process as module
from edged.engines.job import BuildJob
from edged.engines.process import BuildProcess
from edged.errors import BuildError
from edged.runtimes.engine import BuildOptions
from tests.models import double

ROWS = {"x": np.zeros((1, 4), "f4")}
ROOT = Path(__file__).resolve().parents[2]


def job(*, is_background: bool = True) -> BuildJob:
    tiny = double()
    return BuildJob(
        model="m", inputs=tiny.inputs, outputs=tiny.outputs, options=BuildOptions(), chunk=1,
        is_background=is_background,
    )  # fmt: skip


def wait_for(what: Callable[[], object]) -> None:
    until = time.monotonic() + 30
    while not what():
        assert time.monotonic() < until, "did not happen"
        time.sleep(0.01)


@pytest.fixture
def sitter(tmp_path, monkeypatch) -> Callable[..., contextlib.AbstractContextManager[BuildProcess]]:
    """A build whose process runs this code in the place of the worker."""

    @contextlib.contextmanager
    def start(code: str, *, is_background: bool = False) -> Iterator[BuildProcess]:
        (tmp_path / "sitter.py").write_text(f"import os, sys, time, signal\n{code}\n")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setattr(module, "WORKER", "sitter")
        folder = tmp_path / "build"
        folder.mkdir()
        made = job(is_background=is_background)
        built = BuildProcess(folder, made, b"onnx", ROWS, b"timed")
        try:
            yield built
        finally:
            built.close()
        assert not folder.exists()

    return start


_LIVE = "open('step', 'w').write('building'); time.sleep(600)"


def test_it_goes_after_everything_else(sitter):
    with sitter(_LIVE, is_background=True) as build:
        assert os.sched_getscheduler(build.pid) == os.SCHED_IDLE
        assert os.getpriority(os.PRIO_PROCESS, build.pid) == 19


def test_it_gets_files_and_no_secrets(sitter, monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    code = (
        "print(sorted({'SECRET_TOKEN', 'CREDENTIALS_DIRECTORY'} & set(os.environ)),"
        " sorted(os.listdir()), os.getcwd() == os.environ['TMPDIR'] == sys.argv[1])\n"
        "sys.exit(3)"
    )
    with sitter(code) as build:
        build.wait()
        files = ["golden.safetensors", "home", "job.json", "log", "model.onnx", "timing"]
        with pytest.raises(BuildError) as error:
            build.result("float32")
        assert error.value.message == (
            f"the build process failed with exit status 3: [] {files} True"
        )


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def test_it_stands_still_and_goes_on(sitter):
    with sitter(_LIVE) as build:
        wait_for(lambda: build.step == "building")
        build.pause()
        wait_for(lambda: _state(build.pid) == "T")
        build.resume()
        wait_for(lambda: _state(build.pid) != "T")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("print('last words'); os.abort()", "SIGABRT .TensorRT or the driver fell over.: last"),
        ("os.kill(os.getpid(), signal.SIGKILL)", r"SIGKILL \(out of memory\?\): without a word"),
        ("sys.exit(0)", "left no result.json"),
    ],
)
def test_how_it_ended_is_said(sitter, code, words):
    with sitter(code.replace("print('last words')", "print('last words', flush=True)")) as build:
        build.wait()
        with pytest.raises(BuildError, match=words):
            build.result("float32")


def test_one_that_is_killed_while_it_stands_still_is_gone_with_all_it_started(sitter):
    code = "child = os.fork()\nopen('child', 'w').write(str(child)) if child else None\n" + _LIVE
    with sitter(code) as build:
        wait_for(lambda: build.step == "building" and (build._folder / "child").exists())
        wait_for((build._folder / "child").read_text)
        child = int((build._folder / "child").read_text())
        build.pause()
        build.kill()
        build.wait()
        wait_for(lambda: not Path(f"/proc/{child}").exists() or _state(child) == "Z")


def test_a_step_that_is_none_is_the_first(sitter):
    with sitter("open('step', 'w').write('x' * 9); time.sleep(600)") as build:
        wait_for((build._folder / "step").exists)
        assert build.step == "starting"


_PARENT = """
import sys, time
from pathlib import Path
from tests.engines.test_process import ROWS, job
from edged.engines.process import BuildProcess
folder = Path(sys.argv[1]); folder.mkdir()
build = BuildProcess(folder, job(is_background=False), b"onnx", ROWS)
print(build.pid, flush=True)
time.sleep(600)
"""


def test_it_ends_with_whoever_started_it(tmp_path):
    """The daemon killed in mid-build: nobody goes on building for it."""
    site = tmp_path / "site"
    site.mkdir()
    # The real worker, over a TensorRT that takes for ever to import.
    (site / "sitecustomize.py").write_text("import edged.workers.worker as w; import time\n")
    (site / "tensorrt.py").write_text("import time; time.sleep(600)\n")
    paths = os.pathsep.join([str(site), str(ROOT), *(entry for entry in sys.path if entry)])
    driver = (
        "import ctypes; honest = ctypes.CDLL\n"
        "class Driver:\n"
        "    def cuInit(self, flags): return 0\n"
        "    def cuDeviceGetCount(self, count): count._obj.value = 1; return 0\n"
        "ctypes.CDLL = lambda name, *a, **k: Driver() if name == 'libcuda.so.1' else "
        "honest(name, *a, **k)\n"
    )
    (site / "sitecustomize.py").write_text(driver)
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(tmp_path / "build")],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": paths},
        text=True,
    )
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        wait_for((tmp_path / "build" / "step").exists)
        parent.kill()
    wait_for(lambda: not Path(f"/proc/{pid}").exists() or _state(pid) == "Z")
