"""The inside of the process that builds an engine: ``python -m edged.engines.worker FOLDER``.

Builds with the daemon's own code, loads what came out once, and runs the golden rows on it.
TensorRT is native code that may crash or take what memory there is: nothing else lives here, no key
least of all. Judges nothing: the answers go back.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import traceback
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np

from edged import decoding
from edged.engines.job import (
    ANSWERS,
    ENGINE,
    GOLDEN,
    JOB,
    MODEL,
    RESULT,
    STEP,
    STEPS,
    TIMING,
    BuildJob,
    BuildResult,
)
from edged.errors import EdgedError, LoadError, first_line
from edged.runtimes.base import Artefact, Session
from edged.runtimes.tensorrt import TensorRtRuntime
from edged.runtimes.tensorrt_build import build_engine
from edged.store.golden import read_safetensors, write_safetensors
from edged.tensors import Array
from edged.workers.worker import cap_memory, confine

_STARTING, _BUILDING, _LOADING, _CHECKING = STEPS
_DESCRIPTORS = 1024
"""TensorRT keeps a few temporary files and libraries open; a leak ends here."""
_FILE_BYTES = 8 << 30
"""Largest file it may write: the largest engine that a bundle could hold, twice."""
_FIRST_TO_GO = "1000"
"""The kernel's word (proc_pid_oom_score_adj(5)) for whom to end when memory is short."""


def main(folder: Path) -> int:
    """Do the job that lies in a folder; every outcome but a crash is written to its result."""
    job = decoding.decode((folder / JOB).read_bytes(), BuildJob)
    confine(_DESCRIPTORS)
    limit(job)
    _note(folder, _STARTING)
    try:
        result = _build(folder, job)
    except EdgedError as exc:
        result = BuildResult(problem=exc.message, kind="refused")
    except MemoryError:
        cap = f" of {job.memory_mib} MiB (--memory)" if job.memory_mib else ""
        result = BuildResult(
            problem=f"the build needs more memory than the machine's or the cap{cap}",
            kind="refused",
        )
    except Exception as exc:
        # TensorRT's bindings raise anything; the trace is in the log, the caller gets a sentence.
        traceback.print_exc()
        first = first_line(exc, 400)
        result = BuildResult(
            problem=f"TensorRT failed while building: {type(exc).__name__}: {first}",
            kind="refused",
        )
    (folder / RESULT).write_bytes(msgspec.json.encode(result))
    return 0


def limit(job: BuildJob) -> None:
    """Take from this process what it does not need, before anything is opened."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    cap_memory(min(job.memory_mib << 20 or physical, physical))
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    most = _FILE_BYTES if hard == resource.RLIM_INFINITY else min(hard, _FILE_BYTES)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    resource.setrlimit(resource.RLIMIT_NICE, (0, 0))  # what LimitNICE= gives is the event loop's
    if job.is_background:
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_GO, "ascii")


def _note(folder: Path, step: str) -> None:
    """Say what is done now; whoever reads it half written reads it again."""
    (folder / STEP).write_text(step, "ascii")


def _build(folder: Path, job: BuildJob) -> BuildResult:
    runtime = TensorRtRuntime(device=job.device, lanes=1)
    try:
        trt, _ = runtime.open()
        host = runtime.host()
    except EdgedError as exc:
        return BuildResult(problem=exc.message, kind="missing")
    artefact = Artefact(
        job.model,
        (folder / MODEL).read_bytes(),
        tuple(entry.spec() for entry in job.inputs),
        tuple(entry.spec() for entry in job.outputs),
    )
    timing = folder / TIMING
    _note(folder, _BUILDING)
    built = build_engine(
        trt, host, artefact, job.options, timing.read_bytes() if timing.exists() else b""
    )
    data = built.engine.encode()
    _note(folder, _LOADING)
    session = runtime.load(replace(artefact, data=data))
    _note(folder, _CHECKING)
    try:
        answers = _run(session, read_safetensors((folder / GOLDEN).read_bytes()), job.chunk)
    finally:
        session.close()
    (folder / ENGINE).write_bytes(data)
    (folder / ANSWERS).write_bytes(write_safetensors(answers))
    timing.write_bytes(built.timing_cache)
    return BuildResult()


def _run(session: Session, inputs: Mapping[str, Array], chunk: int) -> dict[str, Array]:
    """The engine's answers, so many rows at a time."""
    if not chunk:
        return session.run(inputs)
    rows = len(next(iter(inputs.values())))
    if not rows:
        raise LoadError("there is no golden row to run")
    parts = [
        session.run({name: array[at : at + chunk] for name, array in inputs.items()})
        for at in range(0, rows, chunk)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
