"""The outside of the process that builds an engine: what it is given, and what is believed of it.

It gets the model, the golden inputs, an empty folder and a bare environment; never a signing key.
Decides whether what it left is an engine of that model with everything that a device has to know of
it: a fingerprint with a gap is refused.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from converters.engines.job import (
    ANSWERS,
    ENGINE,
    GOLDEN,
    JOB,
    MODEL,
    RESULT,
    TIMING,
    BuildJob,
    BuildResult,
)
from converters.errors import ConversionError, EngineError, NoDeviceError
from converters.process import Told, read_left, run_process
from edged.errors import LoadError
from edged.runtimes.engine import Engine, Fingerprint, decode, sha256
from edged.store.golden import read_safetensors, write_safetensors
from edged.tensors import Array

WORKER = "converters.engines.worker"
_ENGINE_CAP_BYTES = 4 << 30
"""A bundle holds no larger member."""
_RESULT_CAP_BYTES = 1 << 20
_TIMING_CAP_BYTES = 256 << 20
_BUILD = Told(name="build", limit="--timeout", fell_over="TensorRT or the driver fell over")
_PASSED = (
    *("LD_LIBRARY_PATH", "CUDA_HOME", "CUDA_PATH", "CUDA_VISIBLE_DEVICES"),
    *("CUDA_DEVICE_ORDER", "CUDA_MODULE_LOADING"),
)
"""Where the driver and its libraries are, and which GPUs are to be seen; nothing else comes."""
_MAY_BE_EMPTY = ("l4t", "driver")
"""Of a host: a Jetson's driver has no version of its own, and others have no L4T. One is there."""
_KINDS = {"float16": "HALF", "int8": "INT8"}
"""By precision, TensorRT's name of the type that an engine has to have."""


@dataclass(frozen=True)
class Built:
    """What came back.

    Args:
        engine: with its fingerprint; not yet held against the golden answers.
        answers: to the golden inputs, by output.
        timing_cache: for the next build.
    """

    engine: Engine
    answers: dict[str, Array]
    timing_cache: bytes


def build_apart(
    job: BuildJob,
    model: bytes,
    inputs: Mapping[str, Array],
    timing_cache: bytes,
    *,
    precision: str,
    timeout_s: int,
) -> Built:
    """Build in a process of its own.

    Args:
        job: what to do.
        model: the ONNX file's bytes.
        inputs: the golden ones, by plain name.
        timing_cache: of earlier builds here; empty without one.
        precision: what the bundle calls the model's; the engine has to have it.
        timeout_s: how long it may take.

    Raises:
        NoDeviceError: TensorRT, a driver, a GPU or a way to CUDA is not there.
        EngineError: TensorRT refused it, another precision came out, it crashed or took too long,
            or the engine's fingerprint is not whole.
    """
    with tempfile.TemporaryDirectory(prefix="edged-engine-") as name:
        folder = Path(name)
        (folder / "home").mkdir()
        (folder / JOB).write_bytes(msgspec.json.encode(job))
        (folder / MODEL).write_bytes(model)
        (folder / GOLDEN).write_bytes(write_safetensors(dict(inputs)))
        if timing_cache:
            (folder / TIMING).write_bytes(timing_cache)
        try:
            return _work(folder, job, sha256(model), precision, timeout_s)
        except (EngineError, NoDeviceError):
            raise
        except LoadError as exc:
            raise EngineError(f"what the build left is no engine: {exc.message}") from exc
        except ConversionError as exc:
            raise EngineError(exc.message) from exc


def _work(folder: Path, job: BuildJob, onnx_sha256: str, precision: str, timeout_s: int) -> Built:
    words = [sys.executable, "-m", WORKER, str(folder)]
    run_process(words, folder, _environment(folder), timeout_s=timeout_s, told=_BUILD)
    result = _read_result(folder)
    if result.kind == "missing":
        raise NoDeviceError(
            "an engine is built on the machine whose GPU is to run it, and here that cannot be: "
            f"{result.problem} (needed: NVIDIA's driver, TensorRT with its Python package, and "
            'CUDA from Python by pip install "edged[tensorrt]" or PyCUDA)'
        )
    if result.problem:
        raise EngineError(result.problem)
    engine = decode(read_left(folder, ENGINE, _ENGINE_CAP_BYTES, _BUILD))
    check_fingerprint(engine.fingerprint, job, onnx_sha256, precision)
    answers = read_safetensors(read_left(folder, ANSWERS, _ENGINE_CAP_BYTES, _BUILD))
    return Built(engine, answers, read_left(folder, TIMING, _TIMING_CAP_BYTES, _BUILD))


def check_fingerprint(
    fingerprint: Fingerprint, job: BuildJob, onnx_sha256: str, precision: str
) -> None:
    """Refuse an engine that does not say everything of itself, or is another than was asked for.

    Raises:
        EngineError: names the field.
    """
    host = msgspec.structs.asdict(fingerprint.host)
    gaps = [name for name, value in host.items() if not value and name not in _MAY_BE_EMPTY]
    if not host["driver"] and not host["l4t"]:
        gaps.append("driver")
    if gaps:
        raise EngineError(
            f"the engine's fingerprint lacks {', '.join(gaps)}: without it no device can tell "
            "whether the engine was built for it"
        )
    if fingerprint.onnx_sha256 != onnx_sha256 or fingerprint.options != job.options:
        raise EngineError("the engine's fingerprint is of another model, or of other options")
    names = {one.name for one in fingerprint.io}
    if names != {entry.name for entry in (*job.inputs, *job.outputs)}:
        raise EngineError(
            f"the engine's fingerprint has other inputs and outputs than the bundle: "
            f"{', '.join(sorted(names))}"
        )
    if not fingerprint.built:
        raise EngineError(
            "the engine's fingerprint lacks built: TensorRT tells nothing of the layers it made, "
            "so nobody knows their precision"
        )
    wanted = _KINDS.get(precision)
    if wanted and wanted not in fingerprint.built:
        made = ", ".join(f"{count} {kind}" for kind, count in fingerprint.built.items())
        raise EngineError(f"the bundle's model is {precision}; the engine has layers of {made}")


def _read_result(folder: Path) -> BuildResult:
    data = read_left(folder, RESULT, _RESULT_CAP_BYTES, _BUILD)
    try:
        return msgspec.json.decode(data, type=BuildResult)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise ConversionError(f"the build process left a malformed result: {exc}") from exc


def _environment(folder: Path) -> dict[str, str]:
    paths = [str(Path(entry).absolute()) for entry in sys.path if entry]
    return {
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        "ORT_DISABLE_TELEMETRY": "1",
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder),
        "PYTHONPATH": os.pathsep.join(paths),
        **{name: os.environ[name] for name in _PASSED if name in os.environ},
    }
