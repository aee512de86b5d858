"""The process that builds, seen from the daemon: started, stopped for a while, ended, and read.

It has an empty folder of its own, a bare environment, the lowest priority that there is
(SCHED_IDLE), and no secrets. Decides nothing about when.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from edged.engines.built import Built, read_built
from edged.engines.job import GOLDEN, JOB, MODEL, STEP, STEPS, TIMING, BuildJob
from edged.errors import BuildError
from edged.runtimes.engine import sha256
from edged.store.golden import write_safetensors
from edged.system.child import child_environment
from edged.tensors import Array

WORKER = "edged.engines.worker"
_TAIL_BYTES = 16 << 10
_TOLD_LINES = 3
_CUDA = ("CUDA_HOME", "CUDA_PATH", "CUDA_MODULE_LOADING")
"""Where the builder finds CUDA's own tools, beside what every child is told."""
_NICE = 19


class BuildProcess:
    """One build, in a folder that is removed by ``close``.

    Args:
        folder: empty; its own.
        job: what to do.
        model: the ONNX file's bytes.
        inputs: the golden ones, by plain name.
        timing: of earlier builds; empty without one.

    Raises:
        BuildError: it cannot be started.
    """

    def __init__(
        self,
        folder: Path,
        job: BuildJob,
        model: bytes,
        inputs: Mapping[str, Array],
        timing: bytes = b"",
    ) -> None:
        self._folder = folder
        self._job = job
        self._sha256 = sha256(model)
        try:
            _lay_out(folder, job, model, inputs, timing)
            with (folder / "log").open("wb") as log:
                self._child = subprocess.Popen(
                    [sys.executable, "-s", "-m", WORKER, str(folder)],
                    cwd=folder,
                    env=_environment(folder),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
        except OSError as exc:
            raise BuildError(f"a building process cannot be started: {exc.strerror}") from exc
        if job.is_background:
            _give_way(self._child.pid)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._child.pid

    @property
    def step(self) -> str:
        """What it is doing, one of ``job.STEPS``."""
        with contextlib.suppress(OSError, ValueError):
            said = (self._folder / STEP).read_text("ascii")
            if said in STEPS:
                return said
        return STEPS[0]

    def pause(self) -> None:
        """Let it stand still; what it has in memory stays."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it and whatever it started; may be called at any time from any thread."""
        self._signal(signal.SIGKILL)

    def wait(self) -> None:
        """Until it has ended."""
        self._child.wait()

    def result(self, precision: str) -> Built:
        """What it left, after ``wait``.

        Raises:
            NoDeviceError: TensorRT, a driver, a GPU or a way to CUDA is not there.
            BuildError: it crashed, was ended, or left no engine of this model and precision.
        """
        if status := self._child.returncode:
            raise BuildError(f"the build process {_how(status)}: {self._tail()}")
        return read_built(self._folder, self._job, self._sha256, precision)

    def close(self) -> None:
        """End it if it still runs, and remove what it left."""
        self.kill()
        self._child.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _signal(self, number: signal.Signals) -> None:
        if self._child.poll() is None or number is signal.SIGKILL:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child.pid, number)

    def _tail(self) -> str:
        with contextlib.suppress(OSError), (self._folder / "log").open("rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - _TAIL_BYTES))
            lines = log.read().decode("utf-8", "replace").strip().splitlines()
            return (
                " | ".join(line.strip()[:400] for line in lines[-_TOLD_LINES:]) or "without a word"
            )
        return "without a word"


def _lay_out(
    folder: Path, job: BuildJob, model: bytes, inputs: Mapping[str, Array], timing: bytes
) -> None:
    (folder / "home").mkdir()
    (folder / JOB).write_bytes(msgspec.json.encode(job))
    (folder / MODEL).write_bytes(model)
    (folder / GOLDEN).write_bytes(write_safetensors(dict(inputs)))
    if timing:
        (folder / TIMING).write_bytes(timing)


def _environment(folder: Path) -> dict[str, str]:
    return {
        **child_environment(),
        **{name: os.environ[name] for name in _CUDA if name in os.environ},
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder),
    }


def _give_way(pid: int) -> None:
    """Whatever else wants a core has it first; one that has ended already is told by ``wait``."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, _NICE)
    with contextlib.suppress(OSError):
        os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))


def _how(status: int) -> str:
    if status > 0:
        return f"failed with exit status {status}"
    name = f"signal {-status}"
    with contextlib.suppress(ValueError):
        name = signal.Signals(-status).name
    hint = " (out of memory?)" if name == "SIGKILL" else " (TensorRT or the driver fell over)"
    return f"was ended by {name}{hint}"
