"""The outside of the process that builds an engine: what it is given, and what is believed of it.

It gets the model, the golden inputs, an empty folder and a bare environment; never a signing key.
The other side, and what is believed of what it leaves, is the daemon's own (``edged/engines/``).
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from converters.errors import ConversionError, EngineError, NoDeviceError
from converters.process import Told, run_process
from edged.engines.built import Built, read_built
from edged.engines.job import GOLDEN, JOB, MODEL, TIMING, BuildJob
from edged.errors import BuildError
from edged.errors import NoDeviceError as MissingError
from edged.runtimes.engine import sha256
from edged.store.golden import write_safetensors
from edged.tensors import Array

__all__ = ["WORKER", "Built", "build_apart"]

WORKER = "edged.engines.worker"
_BUILD = Told(name="build", limit="--timeout", fell_over="TensorRT or the driver fell over")
_PASSED = (
    *("LD_LIBRARY_PATH", "CUDA_HOME", "CUDA_PATH", "CUDA_VISIBLE_DEVICES"),
    *("CUDA_DEVICE_ORDER", "CUDA_MODULE_LOADING"),
)
"""Where the driver and its libraries are, and which GPUs are to be seen; nothing else comes."""


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
        except NoDeviceError:
            raise
        except (BuildError, ConversionError) as exc:
            raise EngineError(exc.message) from exc


def _work(folder: Path, job: BuildJob, onnx_sha256: str, precision: str, timeout_s: int) -> Built:
    words = [sys.executable, "-m", WORKER, str(folder)]
    run_process(words, folder, _environment(folder), timeout_s=timeout_s, told=_BUILD)
    try:
        return read_built(folder, job, onnx_sha256, precision)
    except MissingError as exc:
        raise NoDeviceError(
            "an engine is built on the machine whose GPU is to run it, and here that cannot be: "
            f"{exc.message} (needed: NVIDIA's driver, TensorRT with its Python package, and "
            'CUDA from Python by pip install "edged[tensorrt]" or PyCUDA)'
        ) from exc


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
