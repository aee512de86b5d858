"""The outside of the throw-away process: what it is given, how long it may take, what is believed.

The process gets a job, samples, an empty folder and a bare environment; never a signing key. What
it leaves is read as data: ONNX, safetensors and JSON, with caps.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from converters.edges import Edge
from converters.errors import ConversionError, UnsupportedModelError
from converters.foreign import check_interpreter, lend_code
from converters.process import Told, read_left, run_process
from converters.sources.base import SourceJob, SourceResult
from edged.store.golden import read_safetensors, write_safetensors
from edged.tensors import Array

WORKER = "converters.worker"
MAX_MODEL_BYTES = 2**31 - 1
MAX_TENSOR_BYTES = 4 << 30
MAX_RESULT_BYTES = 16 << 20
_CONVERSION = Told(
    name="conversion",
    limit="recipe field timeout_s",
    fell_over="the framework fell over: is the file whole, and of the framework's own version?",
)

ENVIRONMENT = {
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",  # set order decides names in some exporters
    "PYTHONDONTWRITEBYTECODE": "1",
    "OMP_NUM_THREADS": "1",  # sums in one order: the same reference outputs each time
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "-1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TF_DETERMINISTIC_OPS": "1",
    "KERAS_BACKEND": "tensorflow",
    "ORT_DISABLE_TELEMETRY": "1",
}
"""The whole environment beside PATH, HOME and the import path: no token or key comes along."""


@dataclass(frozen=True)
class Converted:
    """What came back, already parsed.

    Args:
        model: the bytes of an ONNX file, not yet judged.
        inputs: the samples as the framework got them.
        outputs: the framework's numbers.
        edges: made rows and the framework's answers to them, by the edge's name.
        result: the rest.
    """

    model: bytes
    inputs: dict[str, Array]
    outputs: dict[str, Array]
    edges: dict[str, Edge]
    result: SourceResult


def run_source(
    job: SourceJob, samples: Mapping[str, Array], timeout_s: int, python: Path | None = None
) -> Converted:
    """Convert in a process of its own.

    Args:
        job: what to do.
        samples: real inputs; may be empty.
        timeout_s: how long it may take.
        python: another interpreter, which has the framework; None for our own.

    Raises:
        ConversionError: the source refused (its own words), crashed, or took too long; or the
            interpreter cannot run our code.
    """
    with tempfile.TemporaryDirectory(prefix="edged-convert-") as name:
        folder = Path(name)
        (folder / "home").mkdir()
        environment = _environment(folder, python)
        if python is not None:
            check_interpreter(python, environment)
        (folder / "job.json").write_bytes(msgspec.json.encode(job))
        (folder / "samples.safetensors").write_bytes(write_safetensors(dict(samples)))
        run_process(
            [str(python or sys.executable), "-m", WORKER, str(folder)],
            folder,
            environment,
            timeout_s=timeout_s,
            told=_CONVERSION,
        )
        result = _read_result(folder)
        if result.error:
            kind = UnsupportedModelError if "Unsupported" in result.error_kind else ConversionError
            where = "" if python is None else f"under {python}: "
            raise kind(where + result.error)
        return _collect(folder, result)


def _collect(folder: Path, result: SourceResult) -> Converted:
    tensors = read_safetensors(
        read_left(folder, "reference.safetensors", MAX_TENSOR_BYTES, _CONVERSION)
    )
    wanted = [f"in.{name}" for name in result.input_names]
    wanted += [f"out.{name}" for name in result.output_names]
    edges = {name: _edge(name, result) for name in result.edges}
    wanted += [key for keys in edges.values() for part in keys for key in part.values()]
    if not result.input_names or not result.output_names or set(wanted) != set(tensors):
        raise ConversionError("the conversion process left other tensors than it named")
    return Converted(
        model=read_left(folder, "model.onnx", MAX_MODEL_BYTES, _CONVERSION),
        inputs={name: tensors[f"in.{name}"] for name in result.input_names},
        outputs={name: tensors[f"out.{name}"] for name in result.output_names},
        edges={
            name: (
                {key: tensors[place] for key, place in inputs.items()},
                {key: tensors[place] for key, place in outputs.items()},
            )
            for name, (inputs, outputs) in edges.items()
        },
        result=result,
    )


def _edge(name: str, result: SourceResult) -> tuple[dict[str, str], dict[str, str]]:
    """The names under which an edge case's tensors lie, by input and by output."""
    return (
        {key: f"edge.{name}.in.{key}" for key in result.input_names},
        {key: f"edge.{name}.out.{key}" for key in result.output_names},
    )


def _read_result(folder: Path) -> SourceResult:
    data = read_left(folder, "result.json", MAX_RESULT_BYTES, _CONVERSION)
    try:
        return msgspec.json.decode(data, type=SourceResult)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise ConversionError(f"the conversion process left a malformed result: {exc}") from exc


def _environment(folder: Path, python: Path | None) -> dict[str, str]:
    """Another interpreter gets our code and none of our packages: they are of our own Python."""
    if python is None:
        paths = [str(Path(entry).absolute()) for entry in sys.path if entry]
    else:
        paths = [lend_code(folder / "code")]
    return {
        **ENVIRONMENT,
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder),
        "PYTHONPATH": os.pathsep.join(paths),
    }
